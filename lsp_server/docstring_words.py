"""From identifiers to English: words, verbs, articles, sentences. Nothing here knows syntax trees."""

from __future__ import annotations

import re

WORD = re.compile(
    r"\b[a-z][A-Z]{2,}(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+\d*(?![a-z])|[A-Z]?[a-z]+|[A-Z]+\d*|\d+"
)
DANGLING = frozenset({"a", "an", "the", "of", "to", "in", "on", "for", "with", "and", "or", "by"})

_VERB_LIST = """
abort accept acquire activate add adjust advance align allocate allow announce append apply approve
archive ask assert assign attach authenticate authorize await backup begin bind block book
broadcast build bump cache calculate call cancel capture cast change check choose claim classify
clean clear click clip clone close collapse collect combine commit compact compare compile complete
compose compress compute concatenate configure confirm connect construct consume contain
convert copy count crawl create crop cut debug decide declare decode decompress decorate decrease
decrypt deduplicate define delay delete deliver derive describe deserialize destroy detach detect
determine diff disable discard disconnect discover dispatch display divide download drain draw
drop dump duplicate echo edit eject embed emit enable encode encrypt end enforce enqueue ensure
enter enumerate erase escape estimate evaluate equal evict examine exclude execute exist exit expand expect
expire explain export expose extend extract fail fetch fill filter finalize find finish fire fit
fix flag flatten flip flush focus fold follow force forget fork format forward free freeze fuse
gather generate get give grant grow guess halt handle hash hide highlight hold hook ignore
import include increase increment indent index infer inherit init initialize inject insert inspect
install instantiate interpolate interpret intersect invalidate invert invite invoke isolate issue
iterate join jump keep kill launch layout lease leave lift limit link list listen load locate lock
log lookup loop lower make manage map mark mask match measure merge migrate mirror mix mock
modify monitor mount move multiply mutate navigate negate normalize notify obtain offer omit open
optimize order output overlap overlay override overwrite pack pad paint parse partition paste
patch pause perform permit persist pick pin ping place plan play plot poll pop populate post
predict prefer prefetch prepare prepend present preserve press preview print probe proceed process
produce promote prompt propagate propose provide prune publish pull purge push put query queue
quit quote raise randomize rank read reap rebase rebuild recalculate receive reclaim recompute
reconnect reconstruct record recover redirect redo reduce refer refine reflect refresh refuse
register regenerate reject relabel relate release reload remember remove rename render renew reopen
repair repeat replace replay reply report represent request require reroute rescale reserve reset
reshape resize resolve respond restart restore restrict resume retain retry return reuse reveal
reverse revert review revoke rewind rewrite rollback rotate round route run sample sanitize save
scale scan schedule score scroll search seek select send serialize serve set setup shift show
shrink shuffle shut shutdown sign signal simplify simulate skip sleep slice slide snap solve sort
spawn specify split spread squash squeeze stack start stop store stream stretch stringify strip
submit subscribe substitute subtract sum summarize supply suppress suspend swap switch sync
synchronize tag take teardown tell terminate throttle throw tick toggle tokenize touch trace track
train transfer transform translate transpose traverse trigger trim truncate try tune turn
unbind undo unescape unfold uninstall unlink unlock unmount unpack unpatch unquote unregister
unset unsubscribe untar unwrap unzip update upgrade upload upsert use validate verify view visit
wait wake walk warn watch weigh widen wipe wrap write yield zip zoom
"""
VERBS = frozenset(re.findall(r"\w+", _VERB_LIST))
_PRODUCER_LIST = """
build calculate choose clean clone collect combine compile compose compute concatenate construct convert
copy count create decode decrypt derive detect determine draw encode encrypt enumerate escape estimate
evaluate extract fetch filter find flatten format gather generate get guess infer interpolate
intersect invert join list load locate lookup make map merge mock negate normalize obtain open parse
pick plan pop prepare produce query quote read receive reconstruct render representation request resolve
reverse sample sanitize scan search select serialize simplify slice sort split stringify strip subtract
sum summarize take tokenize transform translate transpose truncate unescape unpack unquote unwrap wrap
zip
"""
PRODUCERS = frozenset(re.findall(r"\w+", _PRODUCER_LIST))
"""Verbs whose result is what they are said of: `load_users` gives users, `save_users` may not."""

QUESTIONS = frozenset({"is", "has", "can", "should", "was", "are", "does", "needs", "will", "did"})
PARTICLES = frozenset(
    {"all", "if", "up", "down", "out", "from", "until", "at", "into", "as", "only"}
)


ADJECTIVES = frozenset(
    {
        "actual", "additional", "base", "common", "current", "custom", "default", "existing", "expected",
        "extra", "final", "first", "full", "global", "given", "initial", "last", "local", "main", "maximum",
        "minimum", "new", "next", "old", "only", "optional", "original", "other", "own", "previous", "raw",
        "real", "relative", "remote", "required", "same", "second", "single", "static", "total", "valid",
    }
)  # fmt: skip
"""First words of compound names that describe the last: `base_url` is the base url."""


def words_of(name: str) -> list[str]:
    """`loadUserHTTPConfig` and `load_user_http_config` as words; acronyms keep their capitals."""
    words = [word for part in name.split("_") for word in WORD.findall(part)]
    return [w if len(w) > 1 and w.isupper() and not name.isupper() else w.lower() for w in words]


def is_verb(word: str) -> bool:
    """Whether a name that begins with this word says what is done."""
    return word in VERBS or re.fullmatch(r"\w{2,}(?:i[sz]e|ify)", word) is not None


def asks(word: str) -> bool:
    """Whether a name that begins with this word is a question: `is_open`, `contains`, `exists`."""
    if word in QUESTIONS:
        return True
    bare = (word[:-1], word[:-2]) if word.endswith("es") else (word[:-1],)
    return word.endswith("s") and word not in VERBS and any(verb in VERBS for verb in bare)


def is_plural(word: str) -> bool:
    """Whether a noun looks plural."""
    return re.search(r"[^sui]s$", word) is not None and len(word) > 3


def plural(word: str) -> str:
    """A noun's plural, good enough for names: `retry` -> `retries`, `class` -> `classes`."""
    if is_plural(word):
        return word
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def article(words: list[str]) -> list[str]:
    """`the` before a noun phrase; not before particles and digits."""
    if not words or words[0] in DANGLING | PARTICLES or words[0][0].isdigit():
        return words
    return ["the", *words]


def indefinite(words: list[str]) -> list[str]:
    """A noun phrase with `a` or `an` by its sound, `the` for a plural: `a user`, `an HTTP client`."""
    if is_plural(words[-1]):
        return ["the", *words]
    word = words[0]
    if word.isupper():
        vowel = word[0] in "AEFHILMNORSX"
    else:
        vowel = word[0] in "aeio" or re.match(r"u(?!ni|s[eu]|til)", word) is not None
    return ["an" if vowel else "a", *words]


def sentence(words: list[str]) -> str:
    """Words as a sentence."""
    text = " ".join(words)
    return text[:1].upper() + text[1:] + "."


def third_person(name: str, summary: str) -> str:
    """`Load the file.` as Go writes it: `LoadFile loads the file.`"""
    verb, _, rest = summary.rstrip(".").partition(" ")
    verb = verb.lower()
    if verb in ("a", "an", "the"):
        return f"{name} is {verb} {rest}."
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"
    return f"{name} {verb} {rest}".rstrip() + "."


def stem(word: str) -> str:
    """A word without its ending, good enough to see a restated name."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
