ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f $2/login
echo "[127.0.0.1]:$1 $(cut -d' ' -f1,2 host.pub)" > $2/known
mkdir -p /run/sshd; cp $2/login.pub authorized; chown $3 $2/login $2/known
cat > conf <<X
ListenAddress 127.0.0.1:$1
HostKey $PWD/host
AuthorizedKeysFile $PWD/authorized
StrictModes no
UsePAM no
PidFile none
X
/usr/sbin/sshd -D -e -f conf 2> log &
trap 'kill $!' TERM; sleep 0.3; touch ready; wait
