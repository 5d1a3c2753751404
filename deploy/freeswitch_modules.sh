#!/bin/sh
# Names the modules that a FreeSWITCH configuration loads and that are missing.
#
#   freeswitch_modules.sh files CONF FOLDER   of an image: each module is a file in FOLDER
#   freeswitch_modules.sh loaded CONF         of the switch that runs here: each module is loaded, and calls are taken
#
# It needs nothing but a POSIX shell, sed, grep, tr and nc, which busybox has.
set -eu

# The modules of both files, without those in comments.
wanted() {
    for file in "$1/autoload_configs/pre_load_modules.conf.xml" "$1/autoload_configs/modules.conf.xml"; do
        [ -r "$file" ] || { echo "freeswitch: there is no $file" >&2; exit 1; }
        tr '\n' ' ' <"$file" | sed -e 's/<!--/\n<!--/g' -e 's/-->/-->\n/g' | sed -e '/^<!--/d' |
            grep -o '<load module="[^"]*"' | sed -e 's/.*="//' -e 's/"$//'
    done
}

# The reply to one API command. The password goes over a pipe: an argument could be read by every process.
ask() {
    { printf 'auth %s\n\n' "${VOICEMAIL_ESL_PASSWORD:?}"; printf 'api %s\n\n' "$1"; printf 'exit\n\n'; sleep 1; } |
        nc -w 5 127.0.0.1 "${VOICEMAIL_ESL_PORT:-8021}" 2>/dev/null | tr -d '\r'
}

modules=$(wanted "${2:?a folder of configuration}")
missing=
case "${1:?files or loaded}" in
files)
    for module in $modules; do
        [ -f "${3:?a folder of modules}/$module.so" ] || missing="$missing $module"
    done
    ;;
loaded)
    ask status | grep -q 'is ready' || { echo "freeswitch: takes no calls yet, or its Event Socket does not answer" >&2; exit 1; }
    loaded=$(ask 'show modules' | sed -n 's/^[^,]*,[^,]*,\(mod_[a-z0-9_]*\),.*/\1/p')
    for module in $modules; do
        echo "$loaded" | grep -qx "$module" || missing="$missing $module"
    done
    ;;
*)
    echo "usage: freeswitch_modules.sh files CONF FOLDER | loaded CONF" >&2
    exit 2
    ;;
esac
[ -z "$missing" ] || { echo "freeswitch: missing:$missing" >&2; exit 1; }
echo "freeswitch: all $(echo "$modules" | wc -w) modules are there"
