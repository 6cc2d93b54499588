import os

mine, above = {os.getpid()}, os.getppid()
while above > 1:
    mine.add(above)
    above = int(open("/proc/%d/stat" % above).read().rpartition(")")[2].split()[1])
OTHERS = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in mine]
