#!/bin/sh
# Gives coturn the certificate that certbot has renewed: coturn reads it as a user of its own, who may not look into certbot's
# folders, and reads it anew on USR2. Replace turn.example, then:
#
#   install -m 755 deploy/certbot-coturn.sh /etc/letsencrypt/renewal-hooks/deploy/coturn
#   RENEWED_LINEAGE=/etc/letsencrypt/live/turn.example /etc/letsencrypt/renewal-hooks/deploy/coturn
set -eu

# certbot calls this for each certificate that it renews.
test "$RENEWED_LINEAGE" = /etc/letsencrypt/live/turn.example || exit 0
install -d -m 755 /etc/coturn
for file in fullchain privkey; do
    install -o root -g turnserver -m 640 "$RENEWED_LINEAGE/$file.pem" /etc/coturn/
done
systemctl kill --signal USR2 coturn 2>/dev/null || :
