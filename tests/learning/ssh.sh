# a command over ssh, with a key; $1: the server's port
set -e
ssh -F none -p $1 -i $HOME/login -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
    -o UserKnownHostsFile=$HOME/known $(id -un)@127.0.0.1 'echo hello over ssh; cat' <<< input
