ln -s / root; ln -s ../../../.. up; ln -s /etc/passwd passwd; ln conftest.py hard.py
mkdir -p deep && ln -s ../conftest.py deep/conftest.py; mkfifo pipe; ls -l
