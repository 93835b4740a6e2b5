# a web server that root starts: its workers become www-data, and can do no more than that
# $1: the port
set -e
mkdir -p site logs; echo public > site/public; echo private > site/private; chmod 600 site/private
cat > conf <<X
user www-data; worker_processes 2; pid $PWD/pid; error_log $PWD/logs/error;
events { worker_connections 64; }
http { access_log off; client_body_temp_path $PWD/a; proxy_temp_path $PWD/b;
  fastcgi_temp_path $PWD/c; uwsgi_temp_path $PWD/d; scgi_temp_path $PWD/e;
  server { listen 127.0.0.1:$1; root $PWD/site; } }
X
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error
for i in $(seq 100); do test -s pid && break; sleep 0.05; done
get() { exec 3<>/dev/tcp/127.0.0.1/$1; printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3; sed -n '1p;/^\r$/,$p' <&3; exec 3>&-; }
get $1 /public; get $1 /private | head -1
pid=$(cat pid); grep -E '^(Uid|Gid)' /proc/$pid/status
for one in $(grep -l "^PPid:.$pid\$" /proc/[0-9]*/status 2>/dev/null); do grep -E '^(Uid|Gid|Groups|CapEff)' $one; done
nginx -p $PWD -c $PWD/conf -e $PWD/logs/error -s quit
for i in $(seq 100); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
grep -c 'Permission denied' logs/error; stat -c '%U %n' a logs/error
