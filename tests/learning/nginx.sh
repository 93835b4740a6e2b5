# a web server under load; $1: its port
set -e
mkdir -p site logs; seq 2000 > site/long; echo short > site/short
cat > conf <<X
worker_processes 2; pid $PWD/pid; error_log $PWD/logs/error;
events { worker_connections 64; }
http { access_log $PWD/logs/access; client_body_temp_path $PWD/a; proxy_temp_path $PWD/b;
  fastcgi_temp_path $PWD/c; uwsgi_temp_path $PWD/d; scgi_temp_path $PWD/e; sendfile on;
  server { listen 127.0.0.1:$1; root $PWD/site; autoindex on; } }
X
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error
for i in $(seq 100); do sleep 0.05; test -s pid && break; done
get() { exec 3<>/dev/tcp/127.0.0.1/$1; printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3; sed -n '1p;/^\r$/,$p' <&3; exec 3>&-; }
get $1 /short; get $1 /none | head -1
wrk -t1 -c8 -d1s http://127.0.0.1:$1/short | grep -c 'requests in'
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error -s quit
for i in $(seq 100); do sleep 0.05; test -e pid || break; done
