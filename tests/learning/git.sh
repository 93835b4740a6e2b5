# a clone from a server, a commit, a push; $1: the server's port
set -e
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
git clone -q git://127.0.0.1:$1/r.git c; cd c; ls | wc -l
git config user.name x; git config user.email x@y
echo new > file; git add file; git commit -qm two; git log --format=%s; git gc -q; git fsck 2>&1
