#!/usr/bin/env bash
# Installs Claude Runner on Ubuntu 24.04, or brings what it has installed up to date: run as root, as often as wanted.
#
#   deploy.sh --domain runner.example.org --repository https://github.com/you/claude-runner.git
#             [--branch main] [--email you@example.org] [--dry-run]
#
# --email gets a certificate from Let's Encrypt, in agreement with its terms; --dry-run shows what would be done. What was
# told once is kept in /etc/mcpserver/deploy.env, so that `deploy.sh` alone does from then on. With
# DESTDIR=/some/folder it writes its files there and touches nothing else. See README-HETZNER.md.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${DESTDIR:-}
etc=$dest/etc/mcpserver
dry=
domain='' repository='' branch='' email=''

packages=(
    git openssh-client ca-certificates openssl sqlite3 python3 python3-venv nginx certbot bubblewrap socat ufw
    # What Chromium needs, should the playwright server be taken into use.
    fonts-liberation fonts-noto-color-emoji libasound2t64 libatk-bridge2.0-0t64 libatk1.0-0t64 libatspi2.0-0t64
    libcairo2 libcups2t64 libdbus-1-3 libdrm2 libgbm1 libglib2.0-0t64 libnspr4 libnss3 libpango-1.0-0 libx11-6
    libxcb1 libxcomposite1 libxdamage1 libxext6 libxfixes3 libxkbcommon0 libxrandr2
)

main() {
    arguments "$@"
    remembered
    check
    [ -n "$dest" ] || system
    folders
    files
    [ -n "$dest" ] || services
}

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "deploy.sh: $*"
    exit 1
}

# Runs a command, or shows it.
run() {
    if [ -n "$dry" ]; then
        say "+ $*"
    else
        "$@"
    fi
}

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run)
            dry=1
            shift
            continue
            ;;
        --domain | --repository | --branch | --email) [ $# -gt 1 ] || fail "$1 needs a value" ;;
        *) fail "$1 is not known; the head of this file tells what is" ;;
        esac
        printf -v "${1#--}" %s "$2"
        shift 2
    done
}

# Fills in what was told an earlier time.
remembered() {
    local name value
    [ -f "$etc/deploy.env" ] || return 0
    while IFS='=' read -r name value; do
        case $name in
        DOMAIN) domain=${domain:-$value} ;;
        REPOSITORY) repository=${repository:-$value} ;;
        BRANCH) branch=${branch:-$value} ;;
        esac
    done <"$etc/deploy.env"
}

check() {
    branch=${branch:-main}
    [[ $domain =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || fail "--domain must be a name such as runner.example.org"
    [[ $repository =~ ^[^[:space:]\"\'-][^[:space:]\"\']*$ ]] || fail "--repository must be a URL that git can fetch"
    [[ $branch =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*$ ]] || fail "--branch must be the name of a branch"
    [ -n "$dest$dry" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
}

# Packages and users.
system() {
    export DEBIAN_FRONTEND=noninteractive
    run apt-get update -qq
    run apt-get install -y -qq --no-install-recommends "${packages[@]}"
    user mcpuser /bin/bash
    user mcpbuild /usr/sbin/nologin
}

# Makes a user with a home of its own: the server's, and the one who fetches and installs.
user() {
    id -u "$1" >/dev/null 2>&1 ||
        run useradd --system --user-group --create-home --home-dir "/var/lib/$1" --shell "$2" "$1"
    run chmod 0700 "/var/lib/$1"
}

folders() {
    run install -d -m 0755 "$dest/opt/mcpserver" "$dest/usr/local/lib/mcpserver" "$dest/usr/local/sbin" \
        "$dest/etc/systemd/system" "$dest/etc/nginx/sites-available" "$dest/etc/nginx/sites-enabled" \
        "$dest/etc/apparmor.d" "$dest/var/www/letsencrypt"
    run install -d -m 0750 "$etc"
    run install -d -m 0700 "$etc/tls"
}

files() {
    local unit
    for unit in mcpserver.service mcpserver-deploy.service mcpserver-deploy.timer; do
        run install -m 0644 "$here/$unit" "$dest/etc/systemd/system/$unit"
    done
    run install -m 0755 "$here/release.py" "$dest/usr/local/lib/mcpserver/release.py"
    run install -m 0644 "$here/database.py" "$dest/usr/local/lib/mcpserver/database.py"
    run ln -sfn ../lib/mcpserver/release.py "$dest/usr/local/sbin/mcpserver-release"
    # A newer Ubuntu brings a profile of its own.
    [ -e "$dest/etc/apparmor.d/bwrap-userns-restrict" ] ||
        run install -m 0644 "$here/bwrap.apparmor" "$dest/etc/apparmor.d/bwrap"
    sed "s/runner\.example\.org/$domain/g" "$here/nginx.conf" | write 0644 "$dest/etc/nginx/sites-available/mcpserver"
    run ln -sfn ../sites-available/mcpserver "$dest/etc/nginx/sites-enabled/mcpserver"
    settings
    certificate
}

# Writes a file in one step, so that it is never there by half, nor readable by others for a moment.
write() {
    if [ -n "$dry" ]; then
        say "+ write $2 ($1)"
        cat >/dev/null
    else
        (umask 077 && cat >"$2.new")
        chmod "$1" "$2.new"
        mv "$2.new" "$2"
    fi
}

settings() {
    deploy_settings | write 0644 "$etc/deploy.env"
    # The server's own are its owner's from the first day on.
    [ -e "$etc/server.env" ] || server_settings | write 0600 "$etc/server.env"
}

# Says the three again, and whatever else the owner has put there.
deploy_settings() {
    printf 'DOMAIN=%s\nREPOSITORY=%s\nBRANCH=%s\n' "$domain" "$repository" "$branch"
    [ ! -f "$etc/deploy.env" ] || grep -Ev '^(DOMAIN|REPOSITORY|BRANCH)=' "$etc/deploy.env" || true
}

server_settings() {
    cat <<END
# The server's settings and secrets: read by systemd as root. Every variable of the README can stand here; restart after a
# change: systemctl restart mcpserver
PUBLIC_URL=https://$domain
DASHBOARD_USERNAME=owner
DASHBOARD_PASSWORD=$(openssl rand -hex 16)
OAUTH_CLIENT_ID=claude-$(openssl rand -hex 4)
OAUTH_CLIENT_SECRET=$(openssl rand -hex 32)
# How Claude Code signs in, unless mcpuser is logged in: one of these.
#CLAUDE_CODE_OAUTH_TOKEN=
#ANTHROPIC_API_KEY=
END
}

# A certificate of this machine's own, so that nginx starts; a real one takes its place.
certificate() {
    [ -e "$etc/tls/fullchain.pem" ] || run openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
        -nodes -days 3650 -subj "/CN=$domain" -addext "subjectAltName=DNS:$domain" \
        -keyout "$etc/tls/privkey.pem" -out "$etc/tls/fullchain.pem"
}

services() {
    run rm -f /etc/nginx/sites-enabled/default
    run systemctl daemon-reload
    run systemctl reload apparmor
    run nginx -t -q
    run systemctl enable --quiet nginx mcpserver.service mcpserver-deploy.timer
    run systemctl reload-or-restart nginx
    lets_encrypt
    if [ -e /opt/mcpserver/app ]; then
        run systemctl restart mcpserver.service
    else
        run mcpserver-release
    fi
    run systemctl start mcpserver-deploy.timer
    say "Claude Runner is at https://$domain; names and passwords are in /etc/mcpserver/server.env."
    say "The firewall, where it is not up yet: ufw allow OpenSSH && ufw allow 80,443/tcp && ufw enable"
}

lets_encrypt() {
    local file
    [ -n "$email" ] || return 0
    run certbot certonly --quiet --non-interactive --agree-tos --email "$email" --webroot \
        --webroot-path /var/www/letsencrypt --domain "$domain" --deploy-hook 'systemctl reload nginx'
    for file in fullchain.pem privkey.pem; do
        run ln -sfn "/etc/letsencrypt/live/$domain/$file" "$etc/tls/$file"
    done
    run systemctl reload nginx
}

main "$@"
