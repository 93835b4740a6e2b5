# over TLS, from a server whose certificate is checked; $1: its port
set -e
curl -sS --cacert $HOME/ca.pem https://localhost:$1/ | grep -o 'Ciphers supported' | head -1
curl -sS --cacert $HOME/ca.pem -o page https://127.0.0.1:$1/; test -s page; ls
curl -sS https://localhost:$1/ 2>&1 | grep -c certificate
