/* Errors, health and partitions. */
#include "shim.h"

/* ---- errors and health --------------------------------------------------------------- */
API ret_t nvmlDeviceGetEccMode(void *h, u32 *a, u32 *b) {
    ENTER(h);
    GPUONLY();
    u64 v, w;
    if (num(H.d, "ecc", &v)) RET(NOTSUP);
    w = v;
    num(H.d, "ecc_pending", &w);
    *a = (u32)v;
    *b = (u32)w;
    RET(OK);
}
API ret_t nvmlDeviceGetTotalEccErrors(void *h, int et, int ct, u64 *c) {
    ENTER(h);
    GPUONLY();
    char k[24];
    u64 on = 0;
    num(H.d, "ecc", &on);
    if (!on) RET(NOTSUP);
    snprintf(k, sizeof k, "ecc_%s_%s", ct ? "agg" : "vol", et ? "unc" : "corr");
    *c = 0;
    num(H.d, k, c);
    RET(OK);
}
API ret_t nvmlDeviceGetMemoryErrorCounter(void *h, int et, int ct, int loc, u64 *c) {
    ENTER(h);
    GPUONLY();
    char k[32];
    u64 on = 0;
    num(H.d, "ecc", &on);
    if (!on) RET(NOTSUP);
    snprintf(k, sizeof k, "ecc_%s_%s_%d", ct ? "agg" : "vol", et ? "unc" : "corr", loc);
    *c = 0;
    num(H.d, k, c);
    RET(OK);
}
API ret_t nvmlDeviceGetRetiredPages(void *h, int cause, u32 *n, u64 *a) {
    ENTER(h);
    GPUONLY();
    u64 c;
    int r = num(H.d, cause ? "retired_dbe" : "retired_sbe", &c);
    if (r) RET(r);
    if (*n < c) {
        *n = (u32)c;
        RET(SMALL);
    }
    for (u64 i = 0; a && i < c; i++) a[i] = 0x1000 * (i + 1);
    *n = (u32)c;
    RET(OK);
}
API ret_t nvmlDeviceGetRemappedRows(void *h, u32 *co, u32 *un, u32 *pe, u32 *fa) {
    ENTER(h);
    GPUONLY();
    u64 a, b, c = 0, d = 0, m = 0;
    num(H.d, "mig_mode", &m);
    if (m) RET(NOTSUP);
    if (num(H.d, "remap_corr", &a) | num(H.d, "remap_unc", &b)) RET(NOTSUP);
    num(H.d, "remap_pending", &c);
    num(H.d, "remap_failed", &d);
    *co = (u32)a;
    *un = (u32)b;
    *pe = (u32)c;
    *fa = (u32)d;
    RET(OK);
}
typedef struct {
    u32 max, high, partial, low, none;
} hist_t;
API ret_t nvmlDeviceGetRowRemapperHistogram(void *h, hist_t *o) {
    ENTER(h);
    GPUONLY();
    const char *s = kvget(H.d->kv, H.d->nkv, "remap_hist");
    if (!s || sscanf(s, "%u %u %u %u %u", &o->max, &o->high, &o->partial, &o->low, &o->none) != 5)
        RET(NOTSUP);
    RET(OK);
}
typedef union {
    double d;
    u32 ui;
    unsigned long ul;
    u64 ull;
    long long sll;
    int si;
    unsigned short us;
} val_t;
typedef struct {
    u32 id, scope;
    long long ts, lat;
    u32 vtype;
    int ret;
    val_t v;
} fv_t;
API ret_t nvmlDeviceGetFieldValues(void *h, int n, fv_t *a) {
    ENTER(h);
    GPUONLY();
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    static const struct {
        u32 id;
        const char *k;
    } map[] = {{142, "remap_corr"},   {143, "remap_unc"},       {144, "remap_pending"},
               {145, "remap_failed"}, {82, "temp_mem"},         {83, "energy_mj"},
               {94, "pcie_replay"},   {230, "recovery_action"}, {186, "power_mw"},
               {3, "ecc_vol_corr"},   {4, "ecc_vol_unc"},       {5, "ecc_agg_corr"},
               {6, "ecc_agg_unc"}};
    for (int i = 0; i < n; i++) {
        a[i].ret = NOTSUP;
        a[i].ts = t.tv_sec * 1000000LL + t.tv_nsec / 1000;
        a[i].lat = 0;
        a[i].vtype = 3;
        char k[48];
        u64 v;
        const char *key = NULL;
        for (unsigned j = 0; j < sizeof map / sizeof *map; j++)
            if (map[j].id == a[i].id) key = map[j].k;
        if (key && !num(H.d, key, &v)) {
            a[i].ret = OK;
            a[i].v.ull = v;
            continue;
        }
        snprintf(k, sizeof k, "field_%u", a[i].id);
        if (a[i].scope) snprintf(k, sizeof k, "field_%u_%u", a[i].id, a[i].scope);
        if (!num(H.d, k, &v)) {
            a[i].ret = OK;
            a[i].v.ull = v;
        }
    }
    RET(OK);
}
API ret_t nvmlDeviceGetNvLinkState(void *h, u32 l, u32 *s) {
    ENTER(h);
    GPUONLY();
    u64 n = 0, down = ~0ULL;
    num(H.d, "nvlinks", &n);
    num(H.d, "nvlink_down", &down);
    if (!n) RET(NOTSUP);
    if (l >= n) RET(INVAL);
    *s = (u64)l != down;
    RET(OK);
}

/* ---- MIG ----------------------------------------------------------------------------- */
API ret_t nvmlDeviceGetMigMode(void *h, u32 *a, u32 *b) {
    ENTER(h);
    if (H.m) RET(INVAL);
    u64 v, w;
    if (num(H.d, "mig_mode", &v)) RET(NOTSUP);
    w = v;
    num(H.d, "mig_pending", &w);
    *a = (u32)v;
    *b = (u32)w;
    RET(OK);
}
API ret_t nvmlDeviceGetMaxMigDeviceCount(void *h, u32 *n) {
    ENTER(h);
    if (H.m) RET(INVAL);
    u64 v = 0;
    num(H.d, "mig_mode", &v);
    *n = v ? 7 : 0;
    RET(OK);
}
API ret_t nvmlDeviceGetMigDeviceHandleByIndex(void *h, u32 i, void **o) {
    ENTER(h);
    if (H.m) RET(INVAL);
    if (i >= MAXMIG || !H.d->m[i].live) RET(NOTFOUND);
    *o = &H.d->m[i];
    RET(OK);
}
API ret_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *h, void **o) {
    ENTER(h);
    if (!H.m) RET(INVAL);
    *o = H.d;
    RET(OK);
}
API ret_t nvmlDeviceIsMigDeviceHandle(void *h, u32 *o) {
    ENTER(h);
    *o = H.m != NULL;
    RET(OK);
}
API ret_t nvmlDeviceGetGpuInstanceId(void *h, u32 *o) {
    ENTER(h);
    if (!H.m) RET(INVAL);
    *o = H.m->gi;
    RET(OK);
}
API ret_t nvmlDeviceGetComputeInstanceId(void *h, u32 *o) {
    ENTER(h);
    if (!H.m) RET(INVAL);
    *o = H.m->ci;
    RET(OK);
}
typedef struct {
    u32 sms, ce, dec, enc, jpg, ofa, gis, cis;
    u64 memMB;
} attr_t;
API ret_t nvmlDeviceGetAttributes_v2(void *h, attr_t *a) {
    ENTER(h);
    if (!H.m) RET(NOTSUP);
    memset(a, 0, sizeof *a);
    a->sms = H.m->sms;
    a->gis = H.m->gis;
    a->cis = H.m->cis;
    a->ce = 1;
    a->memMB = H.m->total >> 20;
    RET(OK);
}
