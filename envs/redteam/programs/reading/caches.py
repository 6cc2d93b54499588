import io
import tarfile
import zipfile

for path in disk(("/proc", "/sys")):
    if not (path.endswith((".whl", ".zip", ".egg", ".tgz", ".tar.gz", ".tar", ".deb")) or "/http" in path):
        continue
    data = content(path, 50_000_000)
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    offer(name, archive.read(name), path)
        elif data:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    if member.isfile():
                        offer(member.name, archive.extractfile(member).read(), path)
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile):
        pass
