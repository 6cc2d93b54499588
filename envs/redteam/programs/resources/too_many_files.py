import os

for number in range(1500):
    open("a%05d.txt" % number, "w").close()
place = "."
try:
    for _ in range(400):
        place += "/" + "d" * 8
        os.mkdir(place)
except OSError:
    pass
with open("huge.py", "wb") as file:
    file.write(b"#" * 40_000_000)
print(len(os.listdir(".")), "entries")
