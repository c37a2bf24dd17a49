/* What the state file says, and the gate that every call goes through. */
#include "shim.h"

struct state S;
pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
int refcount;

static struct timespec last_mtime;
static off_t last_size = -1;
static ino_t last_ino;

void trace(const char *fn, int idx) {
    const char *p = getenv("NVMLSHIM_CALLS");
    if (!p) return;
    FILE *f = fopen(p, "a");
    if (!f) return;
    fprintf(f, "%s %d\n", fn, idx);
    fclose(f);
}

const char *kvget(kv_t *a, int n, const char *k) {
    for (int i = n - 1; i >= 0; i--)
        if (!strcmp(a[i].k, k)) return a[i].v;
    return NULL;
}
static void copy(char *to, size_t room, const char *from) {
    size_t n = strnlen(from, room - 1);
    memcpy(to, from, n);
    to[n] = 0;
}
static void kvset(kv_t *a, int *n, const char *k, const char *v) {
    if (*n >= MAXKV) return;
    copy(a[*n].k, sizeof a[0].k, k);
    copy(a[*n].v, sizeof a[0].v, v);
    (*n)++;
}

static int last_seen(const struct stat *st) {
    int same = st->st_ino == last_ino && st->st_size == last_size &&
               st->st_mtim.tv_sec == last_mtime.tv_sec && st->st_mtim.tv_nsec == last_mtime.tv_nsec;
    last_ino = st->st_ino;
    last_size = st->st_size;
    last_mtime = st->st_mtim;
    return same;
}

static void forget(void) {
    S.ng = S.nd = S.ne = S.ninj = 0;
    for (int i = 0; i < MAXGPU; i++) { /* handles stay valid: same slot, same address */
        S.d[i].live = S.d[i].nkv = S.d[i].np = S.d[i].ninj = 0;
        S.d[i].index = i;
        for (int j = 0; j < MAXMIG; j++) S.d[i].m[j].live = 0;
    }
}

static dev_t_ *read_gpu(const char *v) {
    int i = atoi(v);
    if (i < 0 || i >= MAXGPU) return NULL;
    S.d[i].live = 1;
    if (i + 1 > S.nd) S.nd = i + 1;
    return &S.d[i];
}

static void read_event(const char *v) {
    if (S.ne >= MAXEV) return;
    ev_t *e = &S.e[S.ne];
    e->gi = e->ci = 0xFFFFFFFFu;
    int n =
        sscanf(v, "%llu %d %llu %llu %u %u", &e->seq, &e->gpu, &e->type, &e->data, &e->gi, &e->ci);
    if (n >= 4) S.ne++;
}

static void read_injection(inj_t *a, int *n, int is_delay, const char *v) {
    int x = 0;
    if (*n >= MAXERR || sscanf(v, "%63s %d", a[*n].fn, &x) != 2) return;
    a[*n].code = is_delay ? -1 : x;
    a[*n].delay_ms = is_delay ? x : 0;
    (*n)++;
}

static void read_process(dev_t_ *d, const char *v) {
    if (d->np >= MAXPROC) return;
    proc_t *p = &d->p[d->np];
    char t = 'C';
    memset(p, 0, sizeof *p);
    p->gi = p->ci = 0xFFFFFFFFu;
    int n = sscanf(v, "%c %u %llu %u %u %u %u %llu", &t, &p->pid, &p->used, &p->gi, &p->ci, &p->sm,
                   &p->mem, &p->ts);
    p->type = t;
    if (n >= 3) d->np++;
}

static void read_mig(dev_t_ *d, const char *v) {
    int i;
    mig_t t;
    memset(&t, 0, sizeof t);
    int n = sscanf(v, "%d %u %u %95s %llu %llu %u %u %u", &i, &t.gi, &t.ci, t.uuid, &t.total,
                   &t.used, &t.sms, &t.gis, &t.cis);
    if (n != 9 || i < 0 || i >= MAXMIG) return;
    t.parent = d;
    t.live = 1;
    t.index = i;
    d->m[i] = t;
}

static void read_line(dev_t_ *d, const char *k, const char *v) {
    int is_delay = !strcmp(k, "delay");
    if (is_delay || !strcmp(k, "err"))
        read_injection(d ? d->inj : S.inj, d ? &d->ninj : &S.ninj, is_delay, v);
    else if (!strcmp(k, "event"))
        read_event(v);
    else if (d && !strcmp(k, "proc"))
        read_process(d, v);
    else if (d && !strcmp(k, "mig"))
        read_mig(d, v);
    else if (d)
        kvset(d->kv, &d->nkv, k, v);
    else
        kvset(S.g, &S.ng, k, v);
}

void load(void) {
    const char *path = getenv("NVMLSHIM_STATE");
    struct stat st;
    if (!path || stat(path, &st) || last_seen(&st)) return;
    FILE *f = fopen(path, "r");
    if (!f) return;
    forget();
    char line[512];
    dev_t_ *d = NULL;
    while (fgets(line, sizeof line, f)) {
        char *k = line + strspn(line, " \t");
        k[strcspn(k, "\r\n")] = 0;
        if (!*k || *k == '#') continue;
        char *v = k + strcspn(k, " \t");
        if (*v) *v++ = 0;
        v += strspn(v, " \t");
        if (!strcmp(k, "gpu"))
            d = read_gpu(v);
        else
            read_line(d, k, v);
    }
    fclose(f);
}

static int resolve(void *h, h_t *o) {
    o->d = NULL;
    o->m = NULL;
    for (int i = 0; i < MAXGPU; i++) {
        if (h == (void *)&S.d[i]) {
            o->d = &S.d[i];
            return S.d[i].live ? OK : INVAL;
        }
        for (int j = 0; j < MAXMIG; j++)
            if (h == (void *)&S.d[i].m[j]) {
                o->m = &S.d[i].m[j];
                o->d = &S.d[i];
                return o->m->live ? OK : INVAL;
            }
    }
    return INVAL;
}
static int inject(inj_t *a, int n, const char *fn, int *delay) {
    int c = -1;
    for (int i = 0; i < n; i++)
        if (!strcmp(a[i].fn, fn) || !strcmp(a[i].fn, "*")) {
            if (a[i].delay_ms)
                *delay += a[i].delay_ms;
            else
                c = a[i].code;
        }
    return c;
}
int gate(const char *fn, void *h, h_t *o, int need_handle) {
    int delay = 0, c;
    pthread_mutex_lock(&mu);
    if (refcount <= 0) {
        pthread_mutex_unlock(&mu);
        return UNINIT;
    }
    load();
    int r = OK, idx = -1;
    c = inject(S.inj, S.ninj, fn, &delay);
    if (need_handle) {
        r = resolve(h, o);
        if (o->d) {
            idx = o->d->index;
            int c2 = inject(o->d->inj, o->d->ninj, fn, &delay);
            if (c2 >= 0) c = c2;
            const char *f = kvget(o->d->kv, o->d->nkv, "fail");
            if (f) c = atoi(f);
        }
    }
    trace(fn, idx);
    if (delay) {
        pthread_mutex_unlock(&mu);
        usleep((useconds_t)delay * 1000);
        pthread_mutex_lock(&mu);
    }
    if (c > 0) r = c;
    if (r != OK) pthread_mutex_unlock(&mu);
    return r; /* OK: returns with the lock held */
}

int num(dev_t_ *d, const char *k, u64 *v) {
    const char *s = kvget(d->kv, d->nkv, k);
    if (!s) return NOTSUP;
    *v = strtoull(s, NULL, 0);
    return OK;
}
int str_(const char *s, char *b, u32 n) {
    if (!s) return NOTSUP;
    if (!b) return INVAL;
    if (strlen(s) + 1 > n) return SMALL;
    strcpy(b, s);
    return OK;
}
