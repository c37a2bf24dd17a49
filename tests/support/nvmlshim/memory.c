/* Memory, its limits, and the processes that use it. */
#include "shim.h"

static lim_t lims[64];
static int nlims;

/* ---- memory -------------------------------------------------------------------------- */
typedef struct {
    u64 total, free, used;
} mem1_t;
typedef struct {
    u32 version;
    u64 total, reserved, free, used;
} mem2_t;
static int memq(h_t *H, u64 *t, u64 *r, u64 *f, u64 *u) {
    if (H->m) {
        *t = H->m->total;
        *u = H->m->used;
        *r = 0;
        *f = *t - *u;
        return OK;
    }
    if (num(H->d, "mem_total", t) | num(H->d, "mem_used", u)) return NOTSUP;
    *r = 0;
    num(H->d, "mem_reserved", r);
    *f = *t - *u - *r;
    return OK;
}
API ret_t nvmlDeviceGetMemoryInfo(void *h, mem1_t *m) {
    ENTER(h);
    u64 t, r, f, u;
    int e = memq(&H, &t, &r, &f, &u);
    if (!e) {
        m->total = t;
        m->free = f;
        m->used = u + r;
    }
    RET(e);
} /* v1 counts reserved as used */
API ret_t nvmlDeviceGetMemoryInfo_v2(void *h, mem2_t *m) {
    ENTER(h);
    if (m->version != (sizeof *m | 2u << 24)) RET(VERMIS);
    u64 t, r, f, u;
    int e = memq(&H, &t, &r, &f, &u);
    if (!e) {
        m->total = t;
        m->reserved = r;
        m->free = f;
        m->used = u;
    }
    RET(e);
}
API ret_t nvmlDeviceGetBAR1MemoryInfo(void *h, mem1_t *m) {
    ENTER(h);
    u64 t, u;
    if (num(H.d, "bar1_total", &t) | num(H.d, "bar1_used", &u)) RET(NOTSUP);
    m->total = t;
    m->used = u;
    m->free = t - u;
    RET(OK);
}
typedef struct {
    const char *ns;
    u64 soft, hard;
} setl_t;
typedef struct {
    const char *ns;
    u64 soft, hard, used;
} getl_t;
API ret_t nvmlDeviceSetMemoryLimits_v1(void *h, setl_t *l) {
    ENTER(h);
    if (H.m) RET(NOTSUP);
    if (!kvget(S.g, S.ng, "memlimits")) RET(NOTSUP);
    if (!l->ns || l->soft > l->hard) RET(INVAL);
    int i;
    for (i = 0; i < nlims; i++)
        if (lims[i].gpu == H.d->index && !strcmp(lims[i].ns, l->ns)) break;
    if (i == 64) RET(SMALL);
    snprintf(lims[i].ns, 256, "%s", l->ns);
    lims[i].gpu = H.d->index;
    lims[i].soft = l->soft;
    lims[i].hard = l->hard;
    if (i == nlims) nlims++;
    RET(OK);
}
API ret_t nvmlDeviceGetMemoryLimits_v1(void *h, getl_t *l) {
    ENTER(h);
    if (H.m || !kvget(S.g, S.ng, "memlimits")) RET(NOTSUP);
    l->soft = 0;
    l->hard = ~0ULL;
    l->used = 0;
    for (int i = 0; i < nlims; i++) {
        if (lims[i].gpu == H.d->index && !strcmp(lims[i].ns, l->ns)) {
            l->soft = lims[i].soft;
            l->hard = lims[i].hard;
        }
    }
    RET(OK);
}

/* ---- processes ----------------------------------------------------------------------- */
typedef struct {
    u32 pid;
    u64 used;
    u32 gi, ci;
} pi_t; /* 24 bytes: _v2 and today's _v3   */
typedef struct {
    u32 pid;
    u64 used;
    u32 gi, ci;
    u64 cc;
} pil_t; /* 32 bytes: the R535 slip        */
static int procs(h_t *H, int type, u32 *n, void *o, int legacy) {
    u32 c = 0, cap = *n;
    for (int i = 0; i < H->d->np; i++) {
        proc_t *p = &H->d->p[i];
        if (p->type != type || (H->m && (p->gi != H->m->gi || p->ci != H->m->ci))) continue;
        if (o && c < cap) {
            if (legacy) {
                pil_t q = {p->pid, p->used, p->gi, p->ci, 0};
                ((pil_t *)o)[c] = q;
            } else {
                pi_t q = {p->pid, p->used, p->gi, p->ci};
                ((pi_t *)o)[c] = q;
            }
        }
        c++;
    }
    *n = c;
    if (c && (!o || c > cap)) return SMALL;
    return OK;
}
#define PROC(fn, T)                                                                                \
    API ret_t fn##_v2(void *h, u32 *n, void *o) {                                                  \
        ENTER(h);                                                                                  \
        RET(procs(&H, T, n, o, 0));                                                                \
    }                                                                                              \
    API ret_t fn##_v3(void *h, u32 *n, void *o) {                                                  \
        ENTER(h);                                                                                  \
        RET(procs(&H, T, n, o, kvget(S.g, S.ng, "procinfo_v3_535") != NULL));                      \
    }
PROC(nvmlDeviceGetComputeRunningProcesses, 'C')
PROC(nvmlDeviceGetGraphicsRunningProcesses, 'G')
PROC(nvmlDeviceGetMPSComputeRunningProcesses, 'M') typedef struct {
    u32 pid;
    u64 ts;
    u32 sm, mem, enc, dec;
} pu_t;
API ret_t nvmlDeviceGetProcessUtilization(void *h, pu_t *o, u32 *n, u64 since) {
    ENTER(h);
    GPUONLY();
    u64 m = 0;
    num(H.d, "mig_mode", &m);
    if (m) RET(NOTSUP);
    u32 c = 0, cap = *n;
    for (int i = 0; i < H.d->np; i++) {
        proc_t *p = &H.d->p[i];
        if (p->ts <= since || (!p->sm && !p->mem)) continue;
        if (o && c < cap) {
            pu_t q = {p->pid, p->ts, p->sm, p->mem, p->enc, p->dec};
            o[c] = q;
        }
        c++;
    }
    *n = c;
    if (!c) RET(NOTFOUND);
    RET(!o || c > cap ? SMALL : OK);
}
