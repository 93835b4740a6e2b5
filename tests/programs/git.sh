# a repository of its own: commits, branches, gc, clone, push
set -e
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
git config --global user.name x; git config --global user.email x@y; git config --global init.defaultBranch main
git init -q r; cd r; for i in $(seq 30); do mkdir -p d$i; seq $i 200 > d$i/f; done; git add .; git commit -qm one; git rev-parse HEAD
echo change >> d3/f; git status --short; git diff --stat; git stash -q; git stash pop -q; git checkout -qb topic; git commit -qam two; git log --oneline; git checkout -q main; git merge -q topic; git tag v1
git gc -q; git fsck 2>&1; cd ..; git clone -q r c; cd c; git log --oneline | wc -l; git status --short | wc -l; echo x > new; git status --short; git grep -c 100 | wc -l; git archive HEAD | tar t | wc -l; git bundle create -q ../b HEAD; git rebase -q HEAD~1; git clean -fdq; ls | wc -l; git push -q ../r HEAD:refs/heads/pushed; git -C ../r branch
