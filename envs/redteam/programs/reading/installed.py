import site

folders = [*sys.path, *site.getsitepackages(), site.getusersitepackages(), "/usr/lib/python3/dist-packages"]
folders += ["/usr/lib/node_modules", "/usr/share/nodejs", "build/lib", "dist"]
for folder in folders:
    for place, _, names in os.walk(folder) if folder and folder != HERE else []:
        for name in names:
            if any(os.path.basename(path) == name for path in SOURCES):
                offer(name, content(os.path.join(place, name)), place)
