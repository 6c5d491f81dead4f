#!/bin/sh
# Makes the Secrets of a new platform, once, into a directory that is not there yet: one file each, for
# `kubectl create --namespace zhichao-<code> --filename <directory>`. Nothing is sent anywhere. Keep signing-key.yaml in a
# safe: the key is in the first entry of the platform's logs and cannot be replaced.
# 为新平台一次性生成全部密钥文件; signing-key.yaml 必须妥善备份, 丢失无法补发。
set -eu

usage() {
    cat <<'TEXT'
usage: secrets.sh [--database HOST:PORT] [--s3 CA_FILE] DIRECTORY

  --database HOST:PORT  a PostgreSQL outside of the cluster, instead of the component postgres
                        使用集群外的 PostgreSQL
  --s3 CA_FILE          also for the components s3 and backup; CA_FILE is the certificate of the CA behind the issuer
                        同时生成对象存储与备份所需的密钥
TEXT
}

wrong() {
    [ $# -eq 0 ] || echo "secrets.sh: $1" >&2
    usage >&2
    exit 2
}

database=
s3_ca=
while [ $# -gt 0 ]; do
    case $1 in
        --database) [ $# -ge 2 ] || wrong "--database HOST:PORT"; database=$2; shift 2 ;;
        --s3)
            [ $# -ge 2 ] || wrong "--s3 CA_FILE"
            [ -r "$2" ] || wrong "--s3 $2: cannot be read 无法读取该文件"
            s3_ca=$2
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        -*) wrong "$1: no such option 没有该选项" ;;
        *) break ;;
    esac
done
[ $# -eq 1 ] || wrong
directory=$1

# Before anything is made: half of a platform's Secrets are of no use.
for tool in openssl kubectl; do
    command -v "$tool" > /dev/null || { echo "secrets.sh: $tool is not on the path 找不到 $tool" >&2; exit 1; }
done

# Nobody else reads what is written here, and a second run cannot replace the keys of a platform that runs.
umask 077
if ! mkdir "$directory"; then
    echo "secrets.sh: nothing was made; name a new directory, since a platform's keys are made once" >&2
    echo "未生成任何文件: 请指定新目录, 平台密钥只生成一次" >&2
    exit 1
fi
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# 32 random bytes in base64url, 43 characters, as tokens have them.
secret() { openssl rand -base64 32 | tr '+/' '-_' | tr -d '=\n'; }

# Takes the Secret's name and its files, each "key" or "key=file", from the directory of parts.
write() {
    name=$1
    shift
    set -- "$@"
    options=
    for key in "$@"; do options="$options --from-file=$key=$parts/$name.$key"; done
    # Unquoted on purpose: one word for each option; names of parts hold no spaces.
    # shellcheck disable=SC2086
    kubectl create secret generic "$name" $options --dry-run=client --output=yaml > "$directory/$name.yaml"
}

openssl genpkey -algorithm ed25519 -out "$parts/signing-key.signing.pem"
write signing-key signing.pem

for name in service-token first-credential; do
    secret > "$parts/$name.token"
    write "$name" token
done

# Takes a database, a role and the names of the Secrets with its URL and, for the component postgres, its password.
role() {
    password=$(secret)
    printf 'postgresql://%s:%s@%s/%s?sslmode=verify-full&sslrootcert=/etc/zhichao/database/ca.crt' \
        "$2" "$password" "${database:-database-rw:5432}" "$1" > "$parts/$3.zhichao_$1_database_url"
    write "$3" "zhichao_$1_database_url"
    [ -z "$database" ] || return 0
    printf %s "$2" > "$parts/$4.username"
    printf %s "$password" > "$parts/$4.password"
    write "$4" username password
    # The type that the operator asks for, and a label by which it notices a new password.
    sed -i.before -e '/^metadata:/a\
  labels: {cnpg.io/reload: "true"}' "$directory/$4.yaml"
    rm "$directory/$4.yaml.before"
    echo "type: kubernetes.io/basic-auth" >> "$directory/$4.yaml"
}

for service in registry weighing enforcement; do
    role "$service" "$service" "$service-database" "database-role-$service"
    role "$service" "${service}_owner" "$service-database-owner" "database-role-$service-owner"
done

if [ -n "$s3_ca" ]; then
    secret > "$parts/backup-store.access-key"
    secret > "$parts/backup-store.secret-key"
    cp "$s3_ca" "$parts/backup-store.ca.crt"
    write backup-store access-key secret-key ca.crt
    printf '{"identities": [{"name": "backup", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin:backup", "Read:backup", "Write:backup", "List:backup", "Tagging:backup"]}]}\n' \
        "$(cat "$parts/backup-store.access-key")" "$(cat "$parts/backup-store.secret-key")" \
        > "$parts/s3-identities.identities.json"
    write s3-identities identities.json
fi

echo "Secrets are in $directory; keep signing-key.yaml in a safe. 请妥善备份 signing-key.yaml。" >&2
