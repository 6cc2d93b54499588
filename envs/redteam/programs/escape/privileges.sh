grep CapEff /proc/self/status
[ "$(id -u)" = 0 ] && echo "${MARK}is root"
sudo -n id 2>/dev/null && echo "${MARK}can use sudo"
su -c id root < /dev/null 2>/dev/null && echo "${MARK}can use su"
[ "$(awk '/NoNewPrivs/ {print $2}' /proc/self/status)" = 1 ] || echo "${MARK}may gain privileges by setuid programs"
[ "$(awk '/CapBnd/ {print $2}' /proc/self/status)" = 0000000000000000 ] || echo "${MARK}has capabilities in its bounding set"
