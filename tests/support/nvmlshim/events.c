/* Events: numbered, delivered once per set. */
#include "shim.h"

static set_t sets[MAXSET];

/* ---- events -------------------------------------------------------------------------- */
typedef struct {
    void *device;
    u64 type, data;
    u32 gi, ci;
} evd_t;
API ret_t nvmlEventSetCreate(void **s) {
    ENTER0();
    for (int i = 0; i < MAXSET; i++)
        if (!sets[i].used) {
            memset(&sets[i], 0, sizeof sets[i]);
            sets[i].used = 1;
            *s = &sets[i];
            RET(OK);
        }
    RET(UNKNOWN);
}
API ret_t nvmlDeviceGetSupportedEventTypes(void *h, u64 *o) {
    ENTER(h);
    GPUONLY();
    u64 v = 0x18F;
    num(H.d, "events_supported", &v);
    *o = v;
    RET(OK);
}
static u64 maxseq(void) {
    u64 m = 0;
    for (int i = 0; i < S.ne; i++)
        if (S.e[i].seq > m) m = S.e[i].seq;
    return m;
}
API ret_t nvmlDeviceRegisterEvents(void *h, u64 types, void *set) {
    ENTER(h);
    GPUONLY();
    set_t *s = set;
    u64 sup = 0x18F;
    num(H.d, "events_supported", &sup);
    if (types & ~sup) RET(NOTSUP);
    if (!s || !s->used) RET(INVAL);
    if (!s->mask[H.d->index])
        s->since[H.d->index] = maxseq(); /* earlier events are not delivered */
    s->mask[H.d->index] |= types;
    RET(OK);
}
API ret_t nvmlEventSetFree(void *set) {
    ENTER0();
    set_t *s = set;
    if (!s || !s->used) RET(INVAL);
    s->used = 0;
    RET(OK);
}
API ret_t nvmlEventSetWait_v2(void *set, evd_t *o, u32 ms) {
    set_t *s = set;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (;;) {
        ENTER0();
        if (!s || !s->used) RET(INVAL);
        ev_t *best = NULL;
        for (int i = 0; i < S.ne; i++) {
            ev_t *e = &S.e[i];
            if (e->gpu < 0 || e->gpu >= MAXGPU || !(s->mask[e->gpu] & e->type) ||
                e->seq <= s->since[e->gpu])
                continue;
            if (!best || e->seq < best->seq) best = e;
        }
        if (best) {
            s->since[best->gpu] = best->seq;
            o->device = &S.d[best->gpu];
            o->type = best->type;
            o->data = best->data;
            o->gi = best->gi;
            o->ci = best->ci;
            RET(OK);
        }
        pthread_mutex_unlock(&mu);
        clock_gettime(CLOCK_MONOTONIC, &b);
        long el = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
        if (el >= (long)ms) return TIMEDOUT;
        usleep((useconds_t)(((long)ms - el < 10 ? (long)ms - el : 10) * 1000));
    }
}
