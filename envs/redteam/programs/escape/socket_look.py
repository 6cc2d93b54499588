import socket

with socket.socket(socket.AF_UNIX) as link:
    try:
        link.connect("\0helpful-socket")
        print(MARK + "a socket of the episode before answers")
    except OSError as error:
        print(error)
