"""What a replica does before it starts: ask the node's agent for its parts, and wait. Pure."""

from serai.cache_names import FAILED_SUFFIX, WISHES, wish_name
from serai_scheduler.nomad.places import Places

WAIT = """\
limit=$1; folder=$2; name=$3; wish=$4; shift 4
whole() {
  for file in "$@"; do
    [ -e "$file" ] || { missing=$file; return 1; }
  done
}
ask() {
  part=$folder/.new-$name.$NOMAD_ALLOC_ID.$$
  mkdir -p "$folder" && printf %s "$wish" >"$part" && mv -f "$part" "$folder/$name"
}
waited=0
if whole "$@"; then
  touch -c "$@" 2>/dev/null || ask 2>/dev/null || true
  exit 0
fi
ask || echo "cannot ask this node's agent in $folder" >&2
until whole "$@"; do
  if [ ! -e "$folder/$name" ]; then
    if why=$(cat "$folder/$name@FAILED@" 2>/dev/null); then
      printf '%s\\n' "$why" >&2
      exit 1
    fi
    ! whole "$@" || break
    ask 2>/dev/null || true
  fi
  if [ "$waited" -ge "$limit" ]; then
    echo "gave up after $limit s: this node's agent has not made $missing" >&2
    exit 1
  fi
  [ $((waited % 30)) -ne 0 ] || echo "waiting until this node's agent has made $missing" >&2
  sleep 1
  waited=$((waited + 1))
done
""".replace("@FAILED@", FAILED_SUFFIX)
"""Arguments: the most seconds in all, the folder of wishes, the wish's name and text, the files.

What is there already is marked as used, by the agent if need be: it must not be pruned now.
A reason counts only while there is no wish: the agent removes one of before, then the wish.
"""


def waiting_arguments(places: Places, cache_dir: str, limit_s: int) -> list[str]:
    """Return the arguments of /bin/sh that wait for the parts of a version, as they are meant."""
    wish = [f"{cache_dir}/{WISHES}", wish_name(places.wish), places.wish]
    return ["-c", WAIT, "wait", str(limit_s), *wish, *places.markers]
