chmod 000 $(find . -name conftest.py); mkdir hidden; echo x > hidden/x; chmod 000 hidden; ls -la
touch /tmp/mark; (setsid sh /tmp/unlock > /dev/null 2>&1 &)
