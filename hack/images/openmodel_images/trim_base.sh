#!/bin/sh
# Runs inside mmdebstrap when the packages are installed; $1 is the new root.
# Adds the user, takes away what a serving pod never needs and what would differ from one build to
# the next. Knows nothing about the layers above.
set -eu
root=$1

echo 'nonroot:x:65532:65532:nonroot:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
echo 'nonroot:x:65532:' >>"$root/etc/group"

# Hash-based and unchecked: the root is read-only, so the source cannot change, and an import
# need not look at it.
chroot "$root" python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11
rm -rf "$root"/usr/lib/python3.11/test "$root"/usr/lib/python3.11/lib2to3/tests

# Nothing in the image changes identity.
find "$root/usr" -xdev -type f -perm /6000 -exec chmod a-s {} +

# The building machine's name, resolver, mirrors and logs.
: >"$root/etc/hostname"
: >"$root/etc/resolv.conf"
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/machine-id
find "$root/var/log" "$root/var/cache" "$root/run" -xdev -type f -delete
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow-
rm -f "$root"/var/lib/dpkg/*-old "$root"/var/lib/dpkg/lock*
