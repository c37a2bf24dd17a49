/* The library itself, and which devices there are. */
#include "shim.h"

/* ---- library ------------------------------------------------------------------------- */
static int do_init(void) {
    pthread_mutex_lock(&mu);
    load();
    trace("nvmlInit", -1);
    const char *w = kvget(S.g, S.ng, "init_delay_ms"); /* a driver that hangs while it wakes */
    if (w) {
        useconds_t us = (useconds_t)atoi(w) * 1000;
        pthread_mutex_unlock(&mu);
        usleep(us);
        pthread_mutex_lock(&mu);
    }
    const char *e = kvget(S.g, S.ng, "init_error");
    int r = e ? atoi(e) : OK;
    if (!getenv("NVMLSHIM_STATE")) r = NODRIVER;
    if (r == OK) refcount++;
    pthread_mutex_unlock(&mu);
    return r;
}
API ret_t nvmlInit_v2(void) { return do_init(); }
API ret_t nvmlInitWithFlags(u32 f) {
    (void)f;
    return do_init();
}
API ret_t nvmlShutdown(void) {
    pthread_mutex_lock(&mu);
    int r = refcount > 0 ? OK : UNINIT;
    if (refcount > 0) refcount--;
    pthread_mutex_unlock(&mu);
    return r;
}
API const char *nvmlErrorString(ret_t r) {
    switch (r) {
    case OK:
        return "Success";
    case UNINIT:
        return "Uninitialized";
    case INVAL:
        return "Invalid Argument";
    case NOTSUP:
        return "Not Supported";
    case NOPERM:
        return "Insufficient Permissions";
    case NOTFOUND:
        return "Not Found";
    case SMALL:
        return "Insufficient Size";
    case NODRIVER:
        return "Driver Not Loaded";
    case TIMEDOUT:
        return "Timeout";
    case NOFN:
        return "Function Not Found";
    case LOST:
        return "GPU is lost";
    case LIBRM:
        return "Driver/library version mismatch";
    case VERMIS:
        return "Argument version mismatch";
    default:
        return "Unknown Error";
    }
}
#define GSTR(fn, key)                                                                              \
    API ret_t fn(char *b, u32 n) {                                                                 \
        ENTER0();                                                                                  \
        RET(str_(kvget(S.g, S.ng, key), b, n));                                                    \
    }
GSTR(nvmlSystemGetDriverVersion, "driver_version")
GSTR(nvmlSystemGetNVMLVersion, "nvml_version")
static int cudav(int *v) {
    const char *s = kvget(S.g, S.ng, "cuda_version");
    if (!s) return NOTSUP;
    *v = atoi(s);
    return OK;
}
API ret_t nvmlSystemGetCudaDriverVersion(int *v) {
    ENTER0();
    RET(cudav(v));
}
API ret_t nvmlSystemGetCudaDriverVersion_v2(int *v) {
    ENTER0();
    RET(cudav(v));
}
API ret_t nvmlSystemGetProcessName(u32 pid, char *b, u32 n) {
    ENTER0();
    char p[64], t[256] = "";
    snprintf(p, sizeof p, "/proc/%u/comm", pid);
    FILE *f = fopen(p, "r");
    if (!f) RET(NOTFOUND);
    if (fgets(t, sizeof t, f)) t[strcspn(t, "\n")] = 0;
    fclose(f);
    RET(str_(t, b, n));
}

/* ---- enumeration --------------------------------------------------------------------- */
API ret_t nvmlDeviceGetCount_v2(u32 *n) {
    ENTER0();
    *n = (u32)S.nd;
    RET(OK);
}
static int lookup_err(dev_t_ *d) {
    const char *f = kvget(d->kv, d->nkv, "fail_handle");
    if (f) return atoi(f);
    f = kvget(d->kv, d->nkv, "fail");
    return f ? atoi(f) : OK;
}
API ret_t nvmlDeviceGetHandleByIndex_v2(u32 i, void **h) {
    ENTER0();
    if (i >= (u32)S.nd || !S.d[i].live) RET(INVAL);
    int e = lookup_err(&S.d[i]);
    if (e) RET(e);
    *h = &S.d[i];
    RET(OK);
}
API ret_t nvmlDeviceGetHandleByUUID(const char *u, void **h) {
    ENTER0();
    for (int i = 0; i < S.nd; i++) {
        const char *s = kvget(S.d[i].kv, S.d[i].nkv, "uuid");
        if (!S.d[i].live) continue;
        if (s && !strcmp(s, u)) {
            int e = lookup_err(&S.d[i]);
            if (e) RET(e);
            *h = &S.d[i];
            RET(OK);
        }
        for (int j = 0; j < MAXMIG; j++)
            if (S.d[i].m[j].live && !strcmp(S.d[i].m[j].uuid, u)) {
                *h = &S.d[i].m[j];
                RET(OK);
            }
    }
    RET(NOTFOUND);
}
static const char *busid(const char *s) {
    return s && strlen(s) == 12 ? s : (s && strlen(s) >= 16 ? s + 4 : s);
}
API ret_t nvmlDeviceGetHandleByPciBusId_v2(const char *b, void **h) {
    ENTER0();
    for (int i = 0; i < S.nd; i++) {
        const char *s = kvget(S.d[i].kv, S.d[i].nkv, "pci");
        if (S.d[i].live && s && !strcasecmp(busid(s), busid(b))) {
            int e = lookup_err(&S.d[i]);
            if (e) RET(e);
            *h = &S.d[i];
            RET(OK);
        }
    }
    RET(NOTFOUND);
}
API ret_t nvmlDeviceGetIndex(void *h, u32 *i) {
    ENTER(h);
    *i = H.m ? (u32)H.m->index : (u32)H.d->index;
    RET(OK);
}
API ret_t nvmlDeviceGetMinorNumber(void *h, u32 *i) {
    ENTER(h);
    GPUONLY();
    u64 v = (u64)H.d->index;
    num(H.d, "minor", &v);
    *i = (u32)v;
    RET(OK);
}
API ret_t nvmlDeviceGetUUID(void *h, char *b, u32 n) {
    ENTER(h);
    RET(str_(H.m ? H.m->uuid : kvget(H.d->kv, H.d->nkv, "uuid"), b, n));
}
API ret_t nvmlDeviceGetName(void *h, char *b, u32 n) {
    ENTER(h);
    const char *s = kvget(H.d->kv, H.d->nkv, "name");
    if (H.m && s) {
        char t[128];
        snprintf(t, sizeof t, "%s MIG %ug.%llugb", s, H.m->gis, (H.m->total + (1ULL << 29)) >> 30);
        RET(str_(t, b, n));
    }
    RET(str_(s, b, n));
}
#define DSTR(fn, key)                                                                              \
    API ret_t fn(void *h, char *b, u32 n) {                                                        \
        ENTER(h);                                                                                  \
        GPUONLY();                                                                                 \
        RET(str_(kvget(H.d->kv, H.d->nkv, key), b, n));                                            \
    }
DSTR(nvmlDeviceGetSerial, "serial")
DSTR(nvmlDeviceGetVbiosVersion, "vbios")
DSTR(nvmlDeviceGetInforomImageVersion, "inforom") typedef struct {
    char legacy[16];
    u32 domain, bus, device, devid, subid;
    char id[32];
} pci_t;
API ret_t nvmlDeviceGetPciInfo_v3(void *h, pci_t *p) {
    ENTER(h);
    const char *s = kvget(H.d->kv, H.d->nkv, "pci");
    if (!s) RET(NOTSUP);
    memset(p, 0, sizeof *p);
    u64 v = 0;
    u32 fnn = 0;
    sscanf(s, "%x:%x:%x.%x", &p->domain, &p->bus, &p->device, &fnn);
    num(H.d, "pci_device_id", &v);
    p->devid = (u32)v;
    snprintf(p->id, 32, "%08X:%02X:%02X.%X", p->domain, p->bus, p->device, fnn);
    snprintf(p->legacy, 16, "%04X:%02X:%02X.%X", p->domain & 0xffff, p->bus & 0xff,
             p->device & 0xff, fnn & 0xf);
    RET(OK);
}
API ret_t nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) {
    ENTER(h);
    const char *s = kvget(H.d->kv, H.d->nkv, "cc");
    if (!s || sscanf(s, "%d.%d", a, b) != 2) RET(NOTSUP);
    RET(OK);
}
