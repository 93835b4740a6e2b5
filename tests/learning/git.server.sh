export GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
git init -q -b main w; cd w; git config user.name s; git config user.email s@t
for i in 1 2 3 4 5 6 7 8 9; do seq $i 99 > f$i; done; git add .; git commit -qm one; cd ..
git clone -q --bare w r.git; touch r.git/git-daemon-export-ok
git daemon --listen=127.0.0.1 --port=$1 --base-path=$PWD --reuseaddr $PWD &
trap 'kill $!' TERM; sleep 0.3; touch ready; wait
