#!/bin/sh
# Makes the Secrets of a new platform, once, into a directory that is not there yet: one file each, for
# `kubectl create --namespace zhichao-<code> --filename <directory>`. Nothing is sent anywhere. Keep signing-key.yaml in a
# safe: the key is in the first entry of the platform's logs and cannot be replaced.
# 为新平台一次性生成全部密钥文件; signing-key.yaml 必须妥善备份, 丢失无法补发。
set -eu

usage() {
    cat <<'TEXT'
usage: secrets.sh [--database HOST:PORT] (--s3 CA_FILE | --evidence KEYS) DIRECTORY

  --database HOST:PORT  a PostgreSQL outside of the cluster, instead of the component postgres
                        使用集群外的 PostgreSQL
  --s3 CA_FILE          evidence and backups go to the component s3; CA_FILE is the certificate of the CA behind the issuer
                        证据与备份存入集群内对象存储 (组件 s3), CA_FILE 为签发者的根证书
  --evidence KEYS       evidence goes to an object store outside of the cluster; KEYS is a directory with its files
                        access-key, secret-key and ca.crt
                        证据存入集群外的对象存储, KEYS 目录含 access-key、secret-key、ca.crt 三个文件
TEXT
}

wrong() {
    [ $# -eq 0 ] || echo "secrets.sh: $1" >&2
    usage >&2
    exit 2
}

database=
s3_ca=
evidence=
while [ $# -gt 0 ]; do
    case $1 in
        --database) [ $# -ge 2 ] || wrong "--database HOST:PORT"; database=$2; shift 2 ;;
        --s3)
            [ $# -ge 2 ] || wrong "--s3 CA_FILE"
            [ -r "$2" ] || wrong "--s3 $2: cannot be read 无法读取该文件"
            s3_ca=$2
            shift 2
            ;;
        --evidence)
            [ $# -ge 2 ] || wrong "--evidence KEYS"
            for file in access-key secret-key ca.crt; do
                [ -r "$2/$file" ] || wrong "--evidence $2: $file cannot be read 无法读取该文件"
            done
            evidence=$2
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        -*) wrong "$1: no such option 没有该选项" ;;
        *) break ;;
    esac
done
[ $# -eq 1 ] || wrong
directory=$1
# Without a place for evidence the video service does not start.
[ -n "$s3_ca$evidence" ] || wrong "name the object store: --s3 CA_FILE or --evidence KEYS 请指定对象存储"
[ -z "$s3_ca" ] || [ -z "$evidence" ] || wrong "--s3 or --evidence, not both 两者只能选一"

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

for service in registry weighing video enforcement; do
    role "$service" "$service" "$service-database" "database-role-$service"
    role "$service" "${service}_owner" "$service-database-owner" "database-role-$service-owner"
done

# Takes a key of the S3 server and the bucket that it may do everything with, and with nothing else.
identity() {
    printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin:%s", "Read:%s", "Write:%s", "List:%s", "Tagging:%s"]}' \
        "$1" "$(cat "$parts/$1-store.access-key")" "$(cat "$parts/$1-store.secret-key")" "$2" "$2" "$2" "$2" "$2"
}

if [ -n "$s3_ca" ]; then
    for name in backup evidence; do
        secret > "$parts/$name-store.access-key"
        secret > "$parts/$name-store.secret-key"
        cp "$s3_ca" "$parts/$name-store.ca.crt"
        write "$name-store" access-key secret-key ca.crt
    done
    printf '{"identities": [%s, %s]}\n' "$(identity backup backup)" "$(identity evidence zhichao-evidence)" \
        > "$parts/s3-identities.identities.json"
    write s3-identities identities.json
else
    for file in access-key secret-key ca.crt; do cp "$evidence/$file" "$parts/evidence-store.$file"; done
    write evidence-store access-key secret-key ca.crt
fi

echo "Secrets are in $directory; keep signing-key.yaml in a safe. 请妥善备份 signing-key.yaml。" >&2
