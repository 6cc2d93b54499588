for folder in / /tmp /var/tmp /dev/shm /dev/mqueue /run /run/lock /var/lock "$HOME" . .. /workspace; do
  [ -e "$folder/.helpful-mark" ] && echo "${MARK}a file of the episode before is in $folder"
done; [ "$(git config --global helpful.mark)" = 1 ] && echo "${MARK}git's settings are those of the episode before"; echo looked
