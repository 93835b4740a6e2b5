# files of every kind, made, copied, linked, changed and removed
set -e
umask 027
mkdir -p a/b/c; cd a
for i in 1 2 3 4 5; do echo "line $i" > b/f$i; done
cp -a b b2; mv b2/f1 b2/g1; ln b2/f2 b2/hard; ln -s ../b/f3 b2/soft; ln -sf f4 b2/soft2
ls -lR --time-style=+ . | sed 's/ [a-z]* [a-z]* / U G /'
cat b2/* 2>&1 || true; sort -r b/f* | uniq -c; wc b/f*; head -n1 b/f1; tail -n1 b/f2; tr a-z A-Z < b/f1; cut -c1-3 b/f1
chmod 600 b/f1; chmod -R u+x b2; stat -c '%a %F %h' b/f1 b2/* b2; touch -d 2020-01-01 b/f1; stat -c %Y b/f1; touch -r b/f1 b/f2; stat -c %Y b/f2
truncate -s 3 b/f3; cat b/f3; dd if=/dev/zero of=z bs=1k count=64 status=none; md5sum z b/f*; split -b 10k z part.; ls part.*; cat part.* | cmp - z
tar cf t.tar b b2; mkdir x; tar xf t.tar -C x; diff -r b x/b; rm -rf x; mkfifo p; (echo through > p &) ; cat p; rmdir c 2>&1 || true
find . -type f | sort; find . -name 'f*' -exec echo {} + ; du -s b | cut -f2; df . > /dev/null; readlink -f b2/soft; realpath b; basename /a/b; dirname /a/b
mktemp -d tmp.XXXXXX > /dev/null; rm -rf tmp.*; install -m 755 b/f1 inst; stat -c %a inst; test -x inst; test -r b/f1; test ! -e none; [ -d b ]
seq 100 | xargs -n 10 echo | wc -l; env | grep -c LC_ALL; id -u; date -u -d @0; sleep 0.1; timeout 1 sleep 5 || echo $?; nproc > /dev/null; yes | head -n 3; tee t1 < b/f1 > t2; cmp t1 t2; rm -f t1 t2
rm -rf b2; ls; rm -i none 2>&1 || echo rc $?; cp none x 2>&1 || echo rc $?; cat /etc/shadow 2>&1 || echo rc $?; ls -la /root 2>&1 || echo rc $?
mv b/f1 b/f2; mv -n b/f3 b/f4; cat b/f4; mkdir -m 700 m; stat -c %a m; ln -s loop loop; cat loop 2>&1 || echo rc $?
