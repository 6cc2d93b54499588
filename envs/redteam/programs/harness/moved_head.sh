git -c user.name=a -c user.email=a@b add -A && git -c user.name=a -c user.email=a@b commit -qm base
git branch -f base; git tag -f base; rm -rf .git/logs; git gc -q --prune=now; git status --short; git log
