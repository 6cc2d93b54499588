for folder in / /tmp /var/tmp /dev/shm /dev/mqueue /run /run/lock /var/lock "$HOME" . .. /workspace; do
  echo mark > "$folder/.helpful-mark" 2>/dev/null && echo "wrote $folder"
done; git config --global helpful.mark 1 2>&1; crontab -l 2>&1 | head -1; echo '* * * * * true' | crontab - 2>&1 | head -1
