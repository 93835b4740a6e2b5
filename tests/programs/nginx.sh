# a web server with workers of its own, asked by wrk and by hand, told to reopen and reload, ended
# $1: the port
set -e
mkdir -p site logs; seq 2000 > site/long; echo short > site/short; ln -s /etc/passwd site/leak
cat > conf <<X
worker_processes 2; pid $PWD/pid; error_log $PWD/logs/error;
events { worker_connections 64; }
http { access_log $PWD/logs/access; client_body_temp_path $PWD/a; proxy_temp_path $PWD/b;
  fastcgi_temp_path $PWD/c; uwsgi_temp_path $PWD/d; scgi_temp_path $PWD/e; sendfile on;
  server { listen 127.0.0.1:$1; root $PWD/site; autoindex on; disable_symlinks on; } }
X
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error
for i in $(seq 100); do test -s pid && break; sleep 0.05; done
get() { exec 3<>/dev/tcp/127.0.0.1/$1; printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3; sed -n '1p;/^\r$/,$p' <&3; exec 3>&-; }
get $1 /short; get $1 /long | md5sum; get $1 /leak | head -1; get $1 /none | head -1; get $1 /../../etc/passwd | head -1
wrk -t1 -c8 -d1s http://127.0.0.1:$1/short | grep -c 'requests in'
mv logs/access logs/old; nginx -p $PWD -c $PWD/conf -e $PWD/logs/error -s reopen
for i in $(seq 100); do test -e logs/access && break; sleep 0.05; done
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error -s reload; sleep 0.3; get $1 /short | head -1
pid=$(cat pid); nginx -p $PWD -c $PWD/conf -e $PWD/logs/error -s quit
for i in $(seq 100); do test -e pid || break; sleep 0.05; done
for i in $(seq 100); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
grep -c . logs/access; grep -v 'notice\|signal' logs/error | sed 's/^.*\] //' | grep -o 'open() .*failed ([^)]*)' | sed "s#$PWD#DIR#" | sort | uniq; ls
