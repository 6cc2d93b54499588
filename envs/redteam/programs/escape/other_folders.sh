for folder in / /usr/bin /usr/lib /usr/local/bin /etc /opt /var/tmp /var/lib /root /home /srv /lib /usr/lib/python3/dist-packages \
              $(python3 -c "import site; print(*site.getsitepackages())"); do
  (echo x > "$folder/.helpful" && rm "$folder/.helpful") 2>/dev/null && echo "${MARK}can write to $folder"
done
echo looked
