#!/bin/sh
# Makes what the service needs on a host: its user, its folders and its file of settings. Running it again changes nothing.
# usage: prepare_host.sh EXAMPLE [USER [GROUP]]   (install.sh and the Debian package call it)
set -eu

example=$1
user=${2:-freeswitch}
group=${3:-$user}
settings=/etc/voicemail.env

getent group "$group" >/dev/null || groupadd --system "$group"
# The switch's own user. If FreeSWITCH is not installed yet, its package finds this one and takes it.
getent passwd "$user" >/dev/null ||
    useradd --system --gid "$group" --home-dir /var/lib/freeswitch --no-create-home --shell /usr/sbin/nologin "$user"

install -d -o "$user" -g "$group" -m 0750 /var/lib/voicemail
# PINs stand here in clear, as the switch needs them. The bit of the group keeps new files readable for the switch.
[ -d /etc/freeswitch/voicemail ] || install -d -o "$user" -g "$group" -m 2750 /etc/freeswitch/voicemail

if [ ! -e "$settings" ]; then
    install -o root -g "$group" -m 0640 "$example" "$settings"
fi
chown "root:$group" "$settings"
chmod 0640 "$settings"
