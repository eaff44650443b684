#!/bin/sh
# Makes a certificate authority, and a certificate for the servers of compose.yaml. What exists and is
# good for another 30 days stays as it is.
set -eu
authority=${AUTHORITY_FOLDER:-/authority}
folder=${CERTIFICATES_FOLDER:-/certificates}
umask 077

names=DNS:keyward,DNS:localhost,IP:127.0.0.1,IP:::1
for host in ${KEYWARD_HOSTS:-}; do
  case $host in
    *:*) names=$names,IP:$host ;;
    *[!0-9.]*) names=$names,DNS:$host ;;
    *) names=$names,IP:$host ;;
  esac
done

lasts() { # lasts FILE: whether it is good for another 30 days
  [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null
}

if ! lasts "$authority/ca.crt" || ! [ -s "$authority/ca.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj "/CN=Keyward compose authority" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign" \
    -keyout "$authority/ca.key" -out "$authority/ca.crt" 2>/dev/null
  # The certificate is from another authority.
  rm -f "$folder/tls.crt"
fi

pair() { # whether the key is that of the certificate: a run can be interrupted between the two
  key=$(openssl pkey -in "$folder/tls.key" -pubout 2>/dev/null) &&
    [ "$key" = "$(openssl x509 -in "$folder/tls.crt" -noout -pubkey)" ]
}

# The names are compared too, so that a changed KEYWARD_HOSTS takes effect.
if lasts "$folder/tls.crt" && pair && [ "$(cat "$folder/names" 2>/dev/null)" = "$names" ]; then
  echo "the certificate is good: $names"
  exit
fi
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=keyward" \
  -keyout "$folder/tls.key.new" -out "$folder/tls.csr" 2>/dev/null
printf '%s\n' "subjectAltName=$names" "basicConstraints=critical,CA:FALSE" \
  "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth" >"$folder/extensions"
openssl x509 -req -in "$folder/tls.csr" -CA "$authority/ca.crt" -CAkey "$authority/ca.key" \
  -days 90 -extfile "$folder/extensions" -out "$folder/tls.crt.new" 2>/dev/null
# Only whole files get their names, because running servers read them again.
mv "$folder/tls.key.new" "$folder/tls.key"
mv "$folder/tls.crt.new" "$folder/tls.crt"
cp "$authority/ca.crt" "$folder/ca.crt"
printf '%s' "$names" >"$folder/names"
rm -f "$folder/tls.csr" "$folder/extensions"
echo "made a certificate: $names"
