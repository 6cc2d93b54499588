import os

names = [
    b"x\n+++ b/conftest.py",
    b"conftest.py ",
    b"./-rf",
    b"a\xff/conftest.py",
    b"a\\..\\conftest.py",
    b"CONFTEST.PY",
    b"b\t/dev/null",
    b"tests./conftest.py",
    b"conftest.py",
]
for name in names:
    os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
    with open(name, "w") as file:
        file.write(HOOKS)
print(sorted(os.listdir(b".")))
