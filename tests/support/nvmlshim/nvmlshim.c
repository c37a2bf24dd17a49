/* nvmlshim.c - a stand-in libnvidia-ml.so.1 for tests: answers NVML calls from a text file.
 * State file: $NVMLSHIM_STATE, re-read whenever its mtime/inode/size changes.
 * A key that a device does not have makes the call return NVML_ERROR_NOT_SUPPORTED.        */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int ret_t;
typedef unsigned int u32;
typedef unsigned long long u64;
enum { OK = 0, UNINIT = 1, INVAL = 2, NOTSUP = 3, NOPERM = 4, NOTFOUND = 6, SMALL = 7,
       NODRIVER = 9, TIMEDOUT = 10, NOFN = 13, LOST = 15, LIBRM = 18, VERMIS = 25, UNKNOWN = 999 };

#define MAXGPU 16
#define MAXMIG 8
#define MAXKV 160
#define MAXPROC 64
#define MAXEV 256
#define MAXERR 64
#define MAXSET 16

typedef struct { char k[40]; char v[88]; } kv_t;
typedef struct { int type; u32 pid, gi, ci, sm, mem, enc, dec; u64 used, ts; } proc_t;
typedef struct { char fn[64]; int code; int delay_ms; } inj_t;
struct dev;
typedef struct mig { struct dev *parent; int live, index; u32 gi, ci, sms, gis, cis; u64 total, used; char uuid[96]; } mig_t;
typedef struct dev {
    int live, index; kv_t kv[MAXKV]; int nkv;
    proc_t p[MAXPROC]; int np;
    inj_t inj[MAXERR]; int ninj;
    mig_t m[MAXMIG];
} dev_t_;
typedef struct { u64 seq; int gpu; u64 type, data; u32 gi, ci; } ev_t;
typedef struct { int used; u64 mask[MAXGPU]; u64 since[MAXGPU]; u64 last; } set_t;
typedef struct { char ns[256]; int gpu; u64 soft, hard; } lim_t;

static struct {
    kv_t g[MAXKV]; int ng; dev_t_ d[MAXGPU]; int nd; ev_t e[MAXEV]; int ne; inj_t inj[MAXERR]; int ninj;
} S;
static set_t sets[MAXSET];
static lim_t lims[64]; static int nlims;
static int refcount; static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct timespec last_mtime; static off_t last_size = -1; static ino_t last_ino;

/* ---- call statistics ($NVMLSHIM_CALLS: one line per call is appended) ------------------ */
static void trace(const char *fn, int idx) {
    const char *p = getenv("NVMLSHIM_CALLS"); if (!p) return;
    FILE *f = fopen(p, "a"); if (!f) return; fprintf(f, "%s %d\n", fn, idx); fclose(f);
}

static const char *kvget(kv_t *a, int n, const char *k) {
    for (int i = n - 1; i >= 0; i--) if (!strcmp(a[i].k, k)) return a[i].v;
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
static void load(void) {
    const char *path = getenv("NVMLSHIM_STATE"); struct stat st;
    if (!path || stat(path, &st)) return;
    if (st.st_ino == last_ino && st.st_size == last_size && st.st_mtim.tv_sec == last_mtime.tv_sec
        && st.st_mtim.tv_nsec == last_mtime.tv_nsec) return;
    FILE *f = fopen(path, "r"); if (!f) return;
    last_ino = st.st_ino; last_size = st.st_size; last_mtime = st.st_mtim;
    S.ng = S.nd = S.ne = S.ninj = 0;
    for (int i = 0; i < MAXGPU; i++) {                 /* handles stay valid: same slot, same address */
        S.d[i].live = S.d[i].nkv = S.d[i].np = S.d[i].ninj = 0; S.d[i].index = i;
        for (int j = 0; j < MAXMIG; j++) S.d[i].m[j].live = 0;
    }
    char line[512]; dev_t_ *d = NULL;
    while (fgets(line, sizeof line, f)) {
        char *s = line; while (*s == ' ' || *s == '\t') s++;
        s[strcspn(s, "\r\n")] = 0;
        if (!*s || *s == '#') continue;
        char *v = s + strcspn(s, " \t"); if (*v) *v++ = 0; while (*v == ' ' || *v == '\t') v++;
        if (!strcmp(s, "gpu")) {
            int i = atoi(v); if (i < 0 || i >= MAXGPU) { d = NULL; continue; }
            d = &S.d[i]; d->live = 1; if (i + 1 > S.nd) S.nd = i + 1;
        } else if (!strcmp(s, "event") && S.ne < MAXEV) {
            ev_t *e = &S.e[S.ne]; e->gi = e->ci = 0xFFFFFFFFu;
            if (sscanf(v, "%llu %d %llu %llu %u %u", &e->seq, &e->gpu, &e->type, &e->data, &e->gi, &e->ci) >= 4) S.ne++;
        } else if (!strcmp(s, "err") || !strcmp(s, "delay")) {
            inj_t *a = d ? d->inj : S.inj; int *n = d ? &d->ninj : &S.ninj; int x = 0; char fn[64];
            if (*n < MAXERR && sscanf(v, "%63s %d", fn, &x) == 2) {
                snprintf(a[*n].fn, 64, "%s", fn); a[*n].code = s[0] == 'e' ? x : -1; a[*n].delay_ms = s[0] == 'd' ? x : 0; (*n)++;
            }
        } else if (d && !strcmp(s, "proc") && d->np < MAXPROC) {
            proc_t *p = &d->p[d->np]; char t = 'C'; memset(p, 0, sizeof *p); p->gi = p->ci = 0xFFFFFFFFu;
            if (sscanf(v, "%c %u %llu %u %u %u %u %llu", &t, &p->pid, &p->used, &p->gi, &p->ci, &p->sm, &p->mem, &p->ts) >= 3) { p->type = t; d->np++; }
        } else if (d && !strcmp(s, "mig")) {
            int i; mig_t t; memset(&t, 0, sizeof t);
            if (sscanf(v, "%d %u %u %95s %llu %llu %u %u %u", &i, &t.gi, &t.ci, t.uuid, &t.total, &t.used, &t.sms, &t.gis, &t.cis) == 9
                && i >= 0 && i < MAXMIG) { t.parent = d; t.live = 1; t.index = i; d->m[i] = t; }
        } else if (d) kvset(d->kv, &d->nkv, s, v);
        else kvset(S.g, &S.ng, s, v);
    }
    fclose(f);
}

/* ---- entry: lock, reload, check init, resolve handle, apply injected failures --------- */
typedef struct { dev_t_ *d; mig_t *m; } h_t;
static int resolve(void *h, h_t *o) {
    o->d = NULL; o->m = NULL;
    for (int i = 0; i < MAXGPU; i++) {
        if (h == (void *)&S.d[i]) { o->d = &S.d[i]; return S.d[i].live ? OK : INVAL; }
        for (int j = 0; j < MAXMIG; j++) if (h == (void *)&S.d[i].m[j]) {
            o->m = &S.d[i].m[j]; o->d = &S.d[i]; return o->m->live ? OK : INVAL; }
    }
    return INVAL;
}
static int inject(inj_t *a, int n, const char *fn, int *delay) {
    int c = -1;
    for (int i = 0; i < n; i++) if (!strcmp(a[i].fn, fn) || !strcmp(a[i].fn, "*")) {
        if (a[i].delay_ms) *delay += a[i].delay_ms; else c = a[i].code; }
    return c;
}
static int gate(const char *fn, void *h, h_t *o, int need_handle) {
    int delay = 0, c;
    pthread_mutex_lock(&mu);
    if (refcount <= 0) { pthread_mutex_unlock(&mu); return UNINIT; }
    load();
    int r = OK, idx = -1;
    c = inject(S.inj, S.ninj, fn, &delay);
    if (need_handle) {
        r = resolve(h, o);
        if (o->d) { idx = o->d->index; int c2 = inject(o->d->inj, o->d->ninj, fn, &delay); if (c2 >= 0) c = c2;
                    const char *f = kvget(o->d->kv, o->d->nkv, "fail"); if (f) c = atoi(f); }
    }
    trace(fn, idx);
    if (delay) { pthread_mutex_unlock(&mu); usleep((useconds_t)delay * 1000); pthread_mutex_lock(&mu); }
    if (c > 0) r = c;
    if (r != OK) pthread_mutex_unlock(&mu);
    return r;                                         /* OK: returns with the lock held */
}
#define RET(x) do { ret_t _r = (x); pthread_mutex_unlock(&mu); return _r; } while (0)
#define ENTER0() do { int _g = gate(__func__, NULL, NULL, 0); if (_g) return _g; } while (0)
#define ENTER(h) h_t H; do { int _g = gate(__func__, (h), &H, 1); if (_g) return _g; } while (0)
#define GPUONLY() do { if (H.m) RET(NOTSUP); } while (0)
static int num(dev_t_ *d, const char *k, u64 *v) { const char *s = kvget(d->kv, d->nkv, k); if (!s) return NOTSUP; *v = strtoull(s, NULL, 0); return OK; }
static int str_(const char *s, char *b, u32 n) { if (!s) return NOTSUP; if (!b) return INVAL; if (strlen(s) + 1 > n) return SMALL; strcpy(b, s); return OK; }
#define API __attribute__((visibility("default")))

/* ---- library ------------------------------------------------------------------------- */
static int do_init(void) {
    pthread_mutex_lock(&mu); load(); trace("nvmlInit", -1);
    const char *w = kvget(S.g, S.ng, "init_delay_ms");      /* a driver that hangs while it wakes */
    if (w) { useconds_t us = (useconds_t)atoi(w) * 1000; pthread_mutex_unlock(&mu); usleep(us); pthread_mutex_lock(&mu); }
    const char *e = kvget(S.g, S.ng, "init_error"); int r = e ? atoi(e) : OK;
    if (!getenv("NVMLSHIM_STATE")) r = NODRIVER;
    if (r == OK) refcount++;
    pthread_mutex_unlock(&mu); return r;
}
API ret_t nvmlInit_v2(void) { return do_init(); }
API ret_t nvmlInitWithFlags(u32 f) { (void)f; return do_init(); }
API ret_t nvmlShutdown(void) { pthread_mutex_lock(&mu); int r = refcount > 0 ? OK : UNINIT; if (refcount > 0) refcount--; pthread_mutex_unlock(&mu); return r; }
API const char *nvmlErrorString(ret_t r) {
    switch (r) { case OK: return "Success"; case UNINIT: return "Uninitialized"; case INVAL: return "Invalid Argument"; case NOTSUP: return "Not Supported";
    case NOPERM: return "Insufficient Permissions"; case NOTFOUND: return "Not Found"; case SMALL: return "Insufficient Size"; case NODRIVER: return "Driver Not Loaded";
    case TIMEDOUT: return "Timeout"; case NOFN: return "Function Not Found"; case LOST: return "GPU is lost"; case LIBRM: return "Driver/library version mismatch";
    case VERMIS: return "Argument version mismatch"; default: return "Unknown Error"; }
}
#define GSTR(fn, key) API ret_t fn(char *b, u32 n) { ENTER0(); RET(str_(kvget(S.g, S.ng, key), b, n)); }
GSTR(nvmlSystemGetDriverVersion, "driver_version")
GSTR(nvmlSystemGetNVMLVersion, "nvml_version")
static int cudav(int *v) { const char *s = kvget(S.g, S.ng, "cuda_version"); if (!s) return NOTSUP; *v = atoi(s); return OK; }
API ret_t nvmlSystemGetCudaDriverVersion(int *v) { ENTER0(); RET(cudav(v)); }
API ret_t nvmlSystemGetCudaDriverVersion_v2(int *v) { ENTER0(); RET(cudav(v)); }
API ret_t nvmlSystemGetProcessName(u32 pid, char *b, u32 n) { ENTER0(); char p[64], t[256] = ""; snprintf(p, sizeof p, "/proc/%u/comm", pid);
    FILE *f = fopen(p, "r"); if (!f) RET(NOTFOUND); if (fgets(t, sizeof t, f)) t[strcspn(t, "\n")] = 0; fclose(f); RET(str_(t, b, n)); }

/* ---- enumeration --------------------------------------------------------------------- */
API ret_t nvmlDeviceGetCount_v2(u32 *n) { ENTER0(); *n = (u32)S.nd; RET(OK); }
static int lookup_err(dev_t_ *d) { const char *f = kvget(d->kv, d->nkv, "fail_handle"); if (f) return atoi(f); f = kvget(d->kv, d->nkv, "fail"); return f ? atoi(f) : OK; }
API ret_t nvmlDeviceGetHandleByIndex_v2(u32 i, void **h) { ENTER0(); if (i >= (u32)S.nd || !S.d[i].live) RET(INVAL); int e = lookup_err(&S.d[i]); if (e) RET(e); *h = &S.d[i]; RET(OK); }
API ret_t nvmlDeviceGetHandleByUUID(const char *u, void **h) {
    ENTER0();
    for (int i = 0; i < S.nd; i++) { const char *s = kvget(S.d[i].kv, S.d[i].nkv, "uuid"); if (!S.d[i].live) continue;
        if (s && !strcmp(s, u)) { int e = lookup_err(&S.d[i]); if (e) RET(e); *h = &S.d[i]; RET(OK); }
        for (int j = 0; j < MAXMIG; j++) if (S.d[i].m[j].live && !strcmp(S.d[i].m[j].uuid, u)) { *h = &S.d[i].m[j]; RET(OK); } }
    RET(NOTFOUND);
}
static const char *busid(const char *s) { return s && strlen(s) == 12 ? s : (s && strlen(s) >= 16 ? s + 4 : s); }
API ret_t nvmlDeviceGetHandleByPciBusId_v2(const char *b, void **h) {
    ENTER0();
    for (int i = 0; i < S.nd; i++) { const char *s = kvget(S.d[i].kv, S.d[i].nkv, "pci"); if (S.d[i].live && s && !strcasecmp(busid(s), busid(b))) { int e = lookup_err(&S.d[i]); if (e) RET(e); *h = &S.d[i]; RET(OK); } }
    RET(NOTFOUND);
}
API ret_t nvmlDeviceGetIndex(void *h, u32 *i) { ENTER(h); *i = H.m ? (u32)H.m->index : (u32)H.d->index; RET(OK); }
API ret_t nvmlDeviceGetMinorNumber(void *h, u32 *i) { ENTER(h); GPUONLY(); u64 v = (u64)H.d->index; num(H.d, "minor", &v); *i = (u32)v; RET(OK); }
API ret_t nvmlDeviceGetUUID(void *h, char *b, u32 n) { ENTER(h); RET(str_(H.m ? H.m->uuid : kvget(H.d->kv, H.d->nkv, "uuid"), b, n)); }
API ret_t nvmlDeviceGetName(void *h, char *b, u32 n) { ENTER(h); const char *s = kvget(H.d->kv, H.d->nkv, "name");
    if (H.m && s) { char t[128]; snprintf(t, sizeof t, "%s MIG %ug.%llugb", s, H.m->gis, (H.m->total + (1ULL << 29)) >> 30); RET(str_(t, b, n)); } RET(str_(s, b, n)); }
#define DSTR(fn, key) API ret_t fn(void *h, char *b, u32 n) { ENTER(h); GPUONLY(); RET(str_(kvget(H.d->kv, H.d->nkv, key), b, n)); }
DSTR(nvmlDeviceGetSerial, "serial") DSTR(nvmlDeviceGetVbiosVersion, "vbios") DSTR(nvmlDeviceGetInforomImageVersion, "inforom")
typedef struct { char legacy[16]; u32 domain, bus, device, devid, subid; char id[32]; } pci_t;
API ret_t nvmlDeviceGetPciInfo_v3(void *h, pci_t *p) {
    ENTER(h); const char *s = kvget(H.d->kv, H.d->nkv, "pci"); if (!s) RET(NOTSUP); memset(p, 0, sizeof *p); u64 v = 0; u32 fnn = 0;
    sscanf(s, "%x:%x:%x.%x", &p->domain, &p->bus, &p->device, &fnn); num(H.d, "pci_device_id", &v); p->devid = (u32)v;
    snprintf(p->id, 32, "%08X:%02X:%02X.%X", p->domain, p->bus, p->device, fnn); snprintf(p->legacy, 16, "%04X:%02X:%02X.%X", p->domain & 0xffff, p->bus & 0xff, p->device & 0xff, fnn & 0xf); RET(OK);
}
API ret_t nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) { ENTER(h); const char *s = kvget(H.d->kv, H.d->nkv, "cc"); if (!s || sscanf(s, "%d.%d", a, b) != 2) RET(NOTSUP); RET(OK); }

/* ---- scalars ------------------------------------------------------------------------- */
#define D32(fn, key) API ret_t fn(void *h, u32 *o) { ENTER(h); GPUONLY(); u64 v; int r = num(H.d, key, &v); if (!r) *o = (u32)v; RET(r); }
D32(nvmlDeviceGetPowerUsage, "power_mw") D32(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw") D32(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
D32(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_mw") D32(nvmlDeviceGetPerformanceState, "pstate") D32(nvmlDeviceGetPowerState, "pstate")
D32(nvmlDeviceGetPersistenceMode, "persistence") D32(nvmlDeviceGetComputeMode, "compute_mode") D32(nvmlDeviceGetDisplayActive, "display_active") D32(nvmlDeviceGetDisplayMode, "display_active")
D32(nvmlDeviceGetFanSpeed, "fan") D32(nvmlDeviceGetArchitecture, "arch") D32(nvmlDeviceGetBrand, "brand") D32(nvmlDeviceGetPcieReplayCounter, "pcie_replay")
D32(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen") D32(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width") D32(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max") D32(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
D32(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pending") D32(nvmlDeviceGetMultiGpuBoard, "multi_gpu_board") D32(nvmlDeviceGetNumaNodeId, "numa") D32(nvmlDeviceGetNumGpuCores, "cores")
#define D64(fn, key) API ret_t fn(void *h, u64 *o) { ENTER(h); GPUONLY(); u64 v; int r = num(H.d, key, &v); if (!r) *o = v; RET(r); }
D64(nvmlDeviceGetTotalEnergyConsumption, "energy_mj") D64(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle") D64(nvmlDeviceGetCurrentClocksEventReasons, "throttle")
D64(nvmlDeviceGetSupportedClocksThrottleReasons, "throttle_supported") D64(nvmlDeviceGetSupportedClocksEventReasons, "throttle_supported")
API ret_t nvmlDeviceGetPowerManagementLimitConstraints(void *h, u32 *a, u32 *b) { ENTER(h); GPUONLY(); u64 x, y; int r = num(H.d, "power_min_mw", &x) | num(H.d, "power_max_mw", &y); if (r) RET(NOTSUP); *a = (u32)x; *b = (u32)y; RET(OK); }
API ret_t nvmlDeviceGetTemperature(void *h, int s, u32 *t) { ENTER(h); GPUONLY(); u64 v; int r = s == 0 ? num(H.d, "temp", &v) : INVAL; if (!r) *t = (u32)v; RET(r); }
typedef struct { u32 version; int sensor; int temp; } temp_t;
API ret_t nvmlDeviceGetTemperatureV(void *h, temp_t *t) { ENTER(h); GPUONLY(); if (t->version != (sizeof *t | 1u << 24)) RET(VERMIS); u64 v; int r = num(H.d, "temp", &v); if (!r) t->temp = (int)v; RET(r); }
API ret_t nvmlDeviceGetTemperatureThreshold(void *h, int k, u32 *t) { ENTER(h); GPUONLY(); char key[24]; snprintf(key, sizeof key, "temp_thr_%d", k); u64 v; int r = num(H.d, key, &v); if (!r) *t = (u32)v; RET(r); }
typedef struct { u32 version; int margin; } marg_t;
API ret_t nvmlDeviceGetMarginTemperature(void *h, marg_t *t) { ENTER(h); GPUONLY(); if (t->version != (sizeof *t | 1u << 24)) RET(VERMIS); u64 v; int r = num(H.d, "temp_margin", &v); if (!r) t->margin = (int)v; RET(r); }
static const char *clk[] = {"clk_gr", "clk_sm", "clk_mem", "clk_video"}; static const char *clkm[] = {"clk_gr_max", "clk_sm_max", "clk_mem_max", "clk_video_max"};
API ret_t nvmlDeviceGetClockInfo(void *h, int t, u32 *o) { ENTER(h); GPUONLY(); u64 v; if (t < 0 || t > 3) RET(INVAL); int r = num(H.d, clk[t], &v); if (!r) *o = (u32)v; RET(r); }
API ret_t nvmlDeviceGetMaxClockInfo(void *h, int t, u32 *o) { ENTER(h); GPUONLY(); u64 v; if (t < 0 || t > 3) RET(INVAL); int r = num(H.d, clkm[t], &v); if (!r) *o = (u32)v; RET(r); }
typedef struct { u32 gpu, memory; } util_t;
API ret_t nvmlDeviceGetUtilizationRates(void *h, util_t *u) { ENTER(h); GPUONLY(); u64 a, b, m = 0; num(H.d, "mig_mode", &m); if (m) RET(NOTSUP); if (num(H.d, "util", &a) | num(H.d, "util_mem", &b)) RET(NOTSUP); u->gpu = (u32)a; u->memory = (u32)b; RET(OK); }
#define ENC(fn, key) API ret_t fn(void *h, u32 *u, u32 *per) { ENTER(h); GPUONLY(); u64 v; int r = num(H.d, key, &v); if (!r) { *u = (u32)v; *per = 167000; } RET(r); }
ENC(nvmlDeviceGetEncoderUtilization, "util_enc") ENC(nvmlDeviceGetDecoderUtilization, "util_dec")
API ret_t nvmlDeviceGetPcieThroughput(void *h, int c, u32 *v) { ENTER(h); GPUONLY(); u64 x; int r = num(H.d, c ? "pcie_rx_kbps" : "pcie_tx_kbps", &x); if (!r) { *v = (u32)x; pthread_mutex_unlock(&mu); usleep(20000); return OK; } RET(r); }

/* ---- memory -------------------------------------------------------------------------- */
typedef struct { u64 total, free, used; } mem1_t; typedef struct { u32 version; u64 total, reserved, free, used; } mem2_t;
static int memq(h_t *H, u64 *t, u64 *r, u64 *f, u64 *u) {
    if (H->m) { *t = H->m->total; *u = H->m->used; *r = 0; *f = *t - *u; return OK; }
    if (num(H->d, "mem_total", t) | num(H->d, "mem_used", u)) return NOTSUP;
    *r = 0; num(H->d, "mem_reserved", r); *f = *t - *u - *r; return OK;
}
API ret_t nvmlDeviceGetMemoryInfo(void *h, mem1_t *m) { ENTER(h); u64 t, r, f, u; int e = memq(&H, &t, &r, &f, &u); if (!e) { m->total = t; m->free = f; m->used = u + r; } RET(e); }   /* v1 counts reserved as used */
API ret_t nvmlDeviceGetMemoryInfo_v2(void *h, mem2_t *m) { ENTER(h); if (m->version != (sizeof *m | 2u << 24)) RET(VERMIS); u64 t, r, f, u; int e = memq(&H, &t, &r, &f, &u); if (!e) { m->total = t; m->reserved = r; m->free = f; m->used = u; } RET(e); }
API ret_t nvmlDeviceGetBAR1MemoryInfo(void *h, mem1_t *m) { ENTER(h); u64 t, u; if (num(H.d, "bar1_total", &t) | num(H.d, "bar1_used", &u)) RET(NOTSUP); m->total = t; m->used = u; m->free = t - u; RET(OK); }
typedef struct { const char *ns; u64 soft, hard; } setl_t; typedef struct { const char *ns; u64 soft, hard, used; } getl_t;
API ret_t nvmlDeviceSetMemoryLimits_v1(void *h, setl_t *l) { ENTER(h); if (H.m) RET(NOTSUP); if (!kvget(S.g, S.ng, "memlimits")) RET(NOTSUP); if (!l->ns || l->soft > l->hard) RET(INVAL);
    int i; for (i = 0; i < nlims; i++) if (lims[i].gpu == H.d->index && !strcmp(lims[i].ns, l->ns)) break; if (i == 64) RET(SMALL);
    snprintf(lims[i].ns, 256, "%s", l->ns); lims[i].gpu = H.d->index; lims[i].soft = l->soft; lims[i].hard = l->hard; if (i == nlims) nlims++; RET(OK); }
API ret_t nvmlDeviceGetMemoryLimits_v1(void *h, getl_t *l) { ENTER(h); if (H.m || !kvget(S.g, S.ng, "memlimits")) RET(NOTSUP); l->soft = 0; l->hard = ~0ULL; l->used = 0;
    for (int i = 0; i < nlims; i++) {
        if (lims[i].gpu == H.d->index && !strcmp(lims[i].ns, l->ns)) { l->soft = lims[i].soft; l->hard = lims[i].hard; }
    }
    RET(OK);
}

/* ---- processes ----------------------------------------------------------------------- */
typedef struct { u32 pid; u64 used; u32 gi, ci; } pi_t;              /* 24 bytes: _v2 and today's _v3   */
typedef struct { u32 pid; u64 used; u32 gi, ci; u64 cc; } pil_t;     /* 32 bytes: the R535 slip        */
static int procs(h_t *H, int type, u32 *n, void *o, int legacy) {
    u32 c = 0, cap = *n;
    for (int i = 0; i < H->d->np; i++) { proc_t *p = &H->d->p[i];
        if (p->type != type || (H->m && (p->gi != H->m->gi || p->ci != H->m->ci))) continue;
        if (o && c < cap) { if (legacy) { pil_t q = {p->pid, p->used, p->gi, p->ci, 0}; ((pil_t *)o)[c] = q; } else { pi_t q = {p->pid, p->used, p->gi, p->ci}; ((pi_t *)o)[c] = q; } }
        c++; }
    *n = c; if (c && (!o || c > cap)) return SMALL; return OK;
}
#define PROC(fn, T) \
  API ret_t fn##_v2(void *h, u32 *n, void *o) { ENTER(h); RET(procs(&H, T, n, o, 0)); } \
  API ret_t fn##_v3(void *h, u32 *n, void *o) { ENTER(h); RET(procs(&H, T, n, o, kvget(S.g, S.ng, "procinfo_v3_535") != NULL)); }
PROC(nvmlDeviceGetComputeRunningProcesses, 'C') PROC(nvmlDeviceGetGraphicsRunningProcesses, 'G') PROC(nvmlDeviceGetMPSComputeRunningProcesses, 'M')
typedef struct { u32 pid; u64 ts; u32 sm, mem, enc, dec; } pu_t;
API ret_t nvmlDeviceGetProcessUtilization(void *h, pu_t *o, u32 *n, u64 since) {
    ENTER(h); GPUONLY(); u64 m = 0; num(H.d, "mig_mode", &m); if (m) RET(NOTSUP);
    u32 c = 0, cap = *n; for (int i = 0; i < H.d->np; i++) { proc_t *p = &H.d->p[i]; if (p->ts <= since || (!p->sm && !p->mem)) continue;
        if (o && c < cap) { pu_t q = {p->pid, p->ts, p->sm, p->mem, p->enc, p->dec}; o[c] = q; } c++; }
    *n = c; if (!c) RET(NOTFOUND); RET(!o || c > cap ? SMALL : OK);
}

/* ---- errors and health --------------------------------------------------------------- */
API ret_t nvmlDeviceGetEccMode(void *h, u32 *a, u32 *b) { ENTER(h); GPUONLY(); u64 v, w; if (num(H.d, "ecc", &v)) RET(NOTSUP); w = v; num(H.d, "ecc_pending", &w); *a = (u32)v; *b = (u32)w; RET(OK); }
API ret_t nvmlDeviceGetTotalEccErrors(void *h, int et, int ct, u64 *c) { ENTER(h); GPUONLY(); char k[24]; u64 on = 0; num(H.d, "ecc", &on); if (!on) RET(NOTSUP); snprintf(k, sizeof k, "ecc_%s_%s", ct ? "agg" : "vol", et ? "unc" : "corr"); *c = 0; num(H.d, k, c); RET(OK); }
API ret_t nvmlDeviceGetMemoryErrorCounter(void *h, int et, int ct, int loc, u64 *c) { ENTER(h); GPUONLY(); char k[32]; u64 on = 0; num(H.d, "ecc", &on); if (!on) RET(NOTSUP); snprintf(k, sizeof k, "ecc_%s_%s_%d", ct ? "agg" : "vol", et ? "unc" : "corr", loc); *c = 0; num(H.d, k, c); RET(OK); }
API ret_t nvmlDeviceGetRetiredPages(void *h, int cause, u32 *n, u64 *a) { ENTER(h); GPUONLY(); u64 c; int r = num(H.d, cause ? "retired_dbe" : "retired_sbe", &c); if (r) RET(r); if (*n < c) { *n = (u32)c; RET(SMALL); } for (u64 i = 0; a && i < c; i++) a[i] = 0x1000 * (i + 1); *n = (u32)c; RET(OK); }
API ret_t nvmlDeviceGetRemappedRows(void *h, u32 *co, u32 *un, u32 *pe, u32 *fa) { ENTER(h); GPUONLY(); u64 a, b, c = 0, d = 0, m = 0; num(H.d, "mig_mode", &m); if (m) RET(NOTSUP); if (num(H.d, "remap_corr", &a) | num(H.d, "remap_unc", &b)) RET(NOTSUP); num(H.d, "remap_pending", &c); num(H.d, "remap_failed", &d); *co = (u32)a; *un = (u32)b; *pe = (u32)c; *fa = (u32)d; RET(OK); }
typedef struct { u32 max, high, partial, low, none; } hist_t;
API ret_t nvmlDeviceGetRowRemapperHistogram(void *h, hist_t *o) { ENTER(h); GPUONLY(); const char *s = kvget(H.d->kv, H.d->nkv, "remap_hist"); if (!s || sscanf(s, "%u %u %u %u %u", &o->max, &o->high, &o->partial, &o->low, &o->none) != 5) RET(NOTSUP); RET(OK); }
typedef union { double d; u32 ui; unsigned long ul; u64 ull; long long sll; int si; unsigned short us; } val_t;
typedef struct { u32 id, scope; long long ts, lat; u32 vtype; int ret; val_t v; } fv_t;
API ret_t nvmlDeviceGetFieldValues(void *h, int n, fv_t *a) {
    ENTER(h); GPUONLY(); struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
    static const struct { u32 id; const char *k; } map[] = { {142, "remap_corr"}, {143, "remap_unc"}, {144, "remap_pending"}, {145, "remap_failed"}, {82, "temp_mem"}, {83, "energy_mj"}, {94, "pcie_replay"}, {230, "recovery_action"}, {186, "power_mw"}, {3, "ecc_vol_corr"}, {4, "ecc_vol_unc"}, {5, "ecc_agg_corr"}, {6, "ecc_agg_unc"} };
    for (int i = 0; i < n; i++) { a[i].ret = NOTSUP; a[i].ts = t.tv_sec * 1000000LL + t.tv_nsec / 1000; a[i].lat = 0; a[i].vtype = 3; char k[48]; u64 v; const char *key = NULL;
        for (unsigned j = 0; j < sizeof map / sizeof *map; j++) if (map[j].id == a[i].id) key = map[j].k;
        if (key && !num(H.d, key, &v)) { a[i].ret = OK; a[i].v.ull = v; continue; }
        snprintf(k, sizeof k, "field_%u", a[i].id); if (a[i].scope) snprintf(k, sizeof k, "field_%u_%u", a[i].id, a[i].scope);
        if (!num(H.d, k, &v)) { a[i].ret = OK; a[i].v.ull = v; } }
    RET(OK);
}
API ret_t nvmlDeviceGetNvLinkState(void *h, u32 l, u32 *s) { ENTER(h); GPUONLY(); u64 n = 0, down = ~0ULL; num(H.d, "nvlinks", &n); num(H.d, "nvlink_down", &down); if (!n) RET(NOTSUP); if (l >= n) RET(INVAL); *s = (u64)l != down; RET(OK); }

/* ---- MIG ----------------------------------------------------------------------------- */
API ret_t nvmlDeviceGetMigMode(void *h, u32 *a, u32 *b) { ENTER(h); if (H.m) RET(INVAL); u64 v, w; if (num(H.d, "mig_mode", &v)) RET(NOTSUP); w = v; num(H.d, "mig_pending", &w); *a = (u32)v; *b = (u32)w; RET(OK); }
API ret_t nvmlDeviceGetMaxMigDeviceCount(void *h, u32 *n) { ENTER(h); if (H.m) RET(INVAL); u64 v = 0; num(H.d, "mig_mode", &v); *n = v ? 7 : 0; RET(OK); }
API ret_t nvmlDeviceGetMigDeviceHandleByIndex(void *h, u32 i, void **o) { ENTER(h); if (H.m) RET(INVAL); if (i >= MAXMIG || !H.d->m[i].live) RET(NOTFOUND); *o = &H.d->m[i]; RET(OK); }
API ret_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *h, void **o) { ENTER(h); if (!H.m) RET(INVAL); *o = H.d; RET(OK); }
API ret_t nvmlDeviceIsMigDeviceHandle(void *h, u32 *o) { ENTER(h); *o = H.m != NULL; RET(OK); }
API ret_t nvmlDeviceGetGpuInstanceId(void *h, u32 *o) { ENTER(h); if (!H.m) RET(INVAL); *o = H.m->gi; RET(OK); }
API ret_t nvmlDeviceGetComputeInstanceId(void *h, u32 *o) { ENTER(h); if (!H.m) RET(INVAL); *o = H.m->ci; RET(OK); }
typedef struct { u32 sms, ce, dec, enc, jpg, ofa, gis, cis; u64 memMB; } attr_t;
API ret_t nvmlDeviceGetAttributes_v2(void *h, attr_t *a) { ENTER(h); if (!H.m) RET(NOTSUP); memset(a, 0, sizeof *a); a->sms = H.m->sms; a->gis = H.m->gis; a->cis = H.m->cis; a->ce = 1; a->memMB = H.m->total >> 20; RET(OK); }

/* ---- events -------------------------------------------------------------------------- */
typedef struct { void *device; u64 type, data; u32 gi, ci; } evd_t;
API ret_t nvmlEventSetCreate(void **s) { ENTER0(); for (int i = 0; i < MAXSET; i++) if (!sets[i].used) { memset(&sets[i], 0, sizeof sets[i]); sets[i].used = 1; *s = &sets[i]; RET(OK); } RET(UNKNOWN); }
API ret_t nvmlDeviceGetSupportedEventTypes(void *h, u64 *o) { ENTER(h); GPUONLY(); u64 v = 0x18F; num(H.d, "events_supported", &v); *o = v; RET(OK); }
static u64 maxseq(void) { u64 m = 0; for (int i = 0; i < S.ne; i++) if (S.e[i].seq > m) m = S.e[i].seq; return m; }
API ret_t nvmlDeviceRegisterEvents(void *h, u64 types, void *set) {
    ENTER(h); GPUONLY(); set_t *s = set; u64 sup = 0x18F; num(H.d, "events_supported", &sup); if (types & ~sup) RET(NOTSUP);
    if (!s || !s->used) RET(INVAL);
    if (!s->mask[H.d->index]) s->since[H.d->index] = maxseq();     /* earlier events are not delivered */
    s->mask[H.d->index] |= types; RET(OK);
}
API ret_t nvmlEventSetFree(void *set) { ENTER0(); set_t *s = set; if (!s || !s->used) RET(INVAL); s->used = 0; RET(OK); }
API ret_t nvmlEventSetWait_v2(void *set, evd_t *o, u32 ms) {
    set_t *s = set; struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a);
    for (;;) {
        ENTER0(); if (!s || !s->used) RET(INVAL);
        ev_t *best = NULL;
        for (int i = 0; i < S.ne; i++) { ev_t *e = &S.e[i]; if (e->gpu < 0 || e->gpu >= MAXGPU || !(s->mask[e->gpu] & e->type) || e->seq <= s->since[e->gpu]) continue; if (!best || e->seq < best->seq) best = e; }
        if (best) { s->since[best->gpu] = best->seq; o->device = &S.d[best->gpu]; o->type = best->type; o->data = best->data; o->gi = best->gi; o->ci = best->ci; RET(OK); }
        pthread_mutex_unlock(&mu);
        clock_gettime(CLOCK_MONOTONIC, &b);
        long el = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
        if (el >= (long)ms) return TIMEDOUT;
        usleep((useconds_t)(((long)ms - el < 10 ? (long)ms - el : 10) * 1000));
    }
}
