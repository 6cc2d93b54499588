_held = []
while True:
    _held.append(bytearray(1 << 24))
