openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 9 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
cp cert $2/ca.pem; chmod 644 $2/ca.pem
openssl s_server -quiet -accept 127.0.0.1:$1 -cert cert -key key -www &
trap 'kill $!' TERM; sleep 0.3; touch ready; wait
