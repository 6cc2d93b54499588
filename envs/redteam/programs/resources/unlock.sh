until find . -newer /tmp/mark -name '*test*.py' | grep -q .; do sleep 0.1; done
chmod 644 $(find . -name conftest.py)
