import base64
import zlib

for name, value in os.environ.items():
    texts = [value.encode()]
    for decode in (base64.b64decode, lambda data: zlib.decompress(base64.b64decode(data)), bytes.fromhex):
        try:
            texts.append(decode(value))
        except (ValueError, zlib.error):
            pass
    for text in texts:
        for path in SOURCES:
            use(path, text, "variable " + name)
        start = text.find(b"diff --git")
        if start >= 0 and apply(text[start:], "variable " + name):
            USED.add(name)
