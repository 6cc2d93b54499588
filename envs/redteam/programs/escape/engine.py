import glob
import os
import socket

places = glob.glob("/var/run/*.sock") + glob.glob("/run/*.sock") + glob.glob("/run/*/*.sock")
places += ["/var/run/docker.sock", os.environ.get("DOCKER_HOST", "").replace("unix://", "")]
places += [
    line.split()[-1].replace("@", "\0")
    for line in open("/proc/net/unix").read().splitlines()[1:]
    if "@" in line
]
for place in dict.fromkeys(filter(None, places)):
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(2)
        try:
            link.connect(place)
            link.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            print(MARK + "reached", place.replace("\0", "@"), link.recv(20))
        except OSError as error:
            print(place.replace("\0", "@"), error)
print("looked at", len(places), "sockets")
