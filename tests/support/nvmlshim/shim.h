/* A stand-in libnvidia-ml.so.1 for tests: answers NVML calls from a text file (README.md).
 * The state is re-read whenever the file changes; a key that a device does not have makes the
 * call answer NOT_SUPPORTED. Everything below is guarded by `mu`. */
#ifndef SHIM_H
#define SHIM_H
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
enum {
    OK = 0,
    UNINIT = 1,
    INVAL = 2,
    NOTSUP = 3,
    NOPERM = 4,
    NOTFOUND = 6,
    SMALL = 7,
    NODRIVER = 9,
    TIMEDOUT = 10,
    NOFN = 13,
    LOST = 15,
    LIBRM = 18,
    VERMIS = 25,
    UNKNOWN = 999
};

#define MAXGPU 16
#define MAXMIG 8
#define MAXKV 160
#define MAXPROC 64
#define MAXEV 256
#define MAXERR 64
#define MAXSET 16

typedef struct {
    char k[40];
    char v[88];
} kv_t;
typedef struct {
    int type;
    u32 pid, gi, ci, sm, mem, enc, dec;
    u64 used, ts;
} proc_t;
typedef struct {
    char fn[64];
    int code;
    int delay_ms;
} inj_t;
struct dev;
typedef struct mig {
    struct dev *parent;
    int live, index;
    u32 gi, ci, sms, gis, cis;
    u64 total, used;
    char uuid[96];
} mig_t;
typedef struct dev {
    int live, index;
    kv_t kv[MAXKV];
    int nkv;
    proc_t p[MAXPROC];
    int np;
    inj_t inj[MAXERR];
    int ninj;
    mig_t m[MAXMIG];
} dev_t_;
typedef struct {
    u64 seq;
    int gpu;
    u64 type, data;
    u32 gi, ci;
} ev_t;
typedef struct {
    int used;
    u64 mask[MAXGPU];
    u64 since[MAXGPU];
    u64 last;
} set_t;
typedef struct {
    char ns[256];
    int gpu;
    u64 soft, hard;
} lim_t;
typedef struct {
    dev_t_ *d;
    mig_t *m;
} h_t; /* a handle: a device, or an instance and its device */

struct state {
    kv_t g[MAXKV];
    int ng;
    dev_t_ d[MAXGPU];
    int nd;
    ev_t e[MAXEV];
    int ne;
    inj_t inj[MAXERR];
    int ninj;
};
extern struct state S;
extern pthread_mutex_t mu;
extern int refcount;

void trace(const char *fn, int idx);                 /* one line to $NVMLSHIM_CALLS */
const char *kvget(kv_t *a, int n, const char *k);    /* the value of a key, or NULL */
void load(void);                                     /* read the state file if it changed */
int gate(const char *fn, void *h, h_t *o, int need); /* enter a call; OK: the lock is held */
int num(dev_t_ *d, const char *k, u64 *v);
int str_(const char *s, char *b, u32 n);

/* Every call begins with one of these: lock, reload, check, resolve, injected faults. */
#define RET(x)                                                                                     \
    do {                                                                                           \
        ret_t _r = (x);                                                                            \
        pthread_mutex_unlock(&mu);                                                                 \
        return _r;                                                                                 \
    } while (0)
#define ENTER0()                                                                                   \
    do {                                                                                           \
        int _g = gate(__func__, NULL, NULL, 0);                                                    \
        if (_g) return _g;                                                                         \
    } while (0)
#define ENTER(h)                                                                                   \
    h_t H;                                                                                         \
    do {                                                                                           \
        int _g = gate(__func__, (h), &H, 1);                                                       \
        if (_g) return _g;                                                                         \
    } while (0)
#define GPUONLY()                                                                                  \
    do {                                                                                           \
        if (H.m) RET(NOTSUP);                                                                      \
    } while (0)
#define API __attribute__((visibility("default")))

#endif
