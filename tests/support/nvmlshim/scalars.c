/* Single values: power, clocks, temperatures, utilization. */
#include "shim.h"

/* ---- scalars ------------------------------------------------------------------------- */
#define D32(fn, key)                                                                               \
    API ret_t fn(void *h, u32 *o) {                                                                \
        ENTER(h);                                                                                  \
        GPUONLY();                                                                                 \
        u64 v;                                                                                     \
        int r = num(H.d, key, &v);                                                                 \
        if (!r) *o = (u32)v;                                                                       \
        RET(r);                                                                                    \
    }
D32(nvmlDeviceGetPowerUsage, "power_mw")
D32(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
D32(nvmlDeviceGetPowerManagementLimit,
    "power_limit_mw") D32(nvmlDeviceGetPowerManagementDefaultLimit,
                          "power_default_mw") D32(nvmlDeviceGetPerformanceState, "pstate")
    D32(nvmlDeviceGetPowerState, "pstate") D32(nvmlDeviceGetPersistenceMode, "persistence") D32(
        nvmlDeviceGetComputeMode, "compute_mode") D32(nvmlDeviceGetDisplayActive, "display_active")
        D32(nvmlDeviceGetDisplayMode, "display_active") D32(nvmlDeviceGetFanSpeed, "fan")
            D32(nvmlDeviceGetArchitecture, "arch") D32(nvmlDeviceGetBrand, "brand")
                D32(nvmlDeviceGetPcieReplayCounter,
                    "pcie_replay") D32(nvmlDeviceGetCurrPcieLinkGeneration,
                                       "pcie_gen") D32(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
                    D32(nvmlDeviceGetMaxPcieLinkGeneration,
                        "pcie_gen_max") D32(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
                        D32(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pending")
                            D32(nvmlDeviceGetMultiGpuBoard, "multi_gpu_board")
                                D32(nvmlDeviceGetNumaNodeId, "numa") D32(nvmlDeviceGetNumGpuCores,
                                                                         "cores")
#define D64(fn, key)                                                                               \
    API ret_t fn(void *h, u64 *o) {                                                                \
        ENTER(h);                                                                                  \
        GPUONLY();                                                                                 \
        u64 v;                                                                                     \
        int r = num(H.d, key, &v);                                                                 \
        if (!r) *o = v;                                                                            \
        RET(r);                                                                                    \
    }
                                    D64(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
                                        D64(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle")
                                            D64(nvmlDeviceGetCurrentClocksEventReasons, "throttle")
                                                D64(nvmlDeviceGetSupportedClocksThrottleReasons,
                                                    "throttle_supported")
                                                    D64(nvmlDeviceGetSupportedClocksEventReasons,
                                                        "throttle_supported") API ret_t
    nvmlDeviceGetPowerManagementLimitConstraints(void *h, u32 *a, u32 *b) {
    ENTER(h);
    GPUONLY();
    u64 x, y;
    int r = num(H.d, "power_min_mw", &x) | num(H.d, "power_max_mw", &y);
    if (r) RET(NOTSUP);
    *a = (u32)x;
    *b = (u32)y;
    RET(OK);
}
API ret_t nvmlDeviceGetTemperature(void *h, int s, u32 *t) {
    ENTER(h);
    GPUONLY();
    u64 v;
    int r = s == 0 ? num(H.d, "temp", &v) : INVAL;
    if (!r) *t = (u32)v;
    RET(r);
}
typedef struct {
    u32 version;
    int sensor;
    int temp;
} temp_t;
API ret_t nvmlDeviceGetTemperatureV(void *h, temp_t *t) {
    ENTER(h);
    GPUONLY();
    if (t->version != (sizeof *t | 1u << 24)) RET(VERMIS);
    u64 v;
    int r = num(H.d, "temp", &v);
    if (!r) t->temp = (int)v;
    RET(r);
}
API ret_t nvmlDeviceGetTemperatureThreshold(void *h, int k, u32 *t) {
    ENTER(h);
    GPUONLY();
    char key[24];
    snprintf(key, sizeof key, "temp_thr_%d", k);
    u64 v;
    int r = num(H.d, key, &v);
    if (!r) *t = (u32)v;
    RET(r);
}
typedef struct {
    u32 version;
    int margin;
} marg_t;
API ret_t nvmlDeviceGetMarginTemperature(void *h, marg_t *t) {
    ENTER(h);
    GPUONLY();
    if (t->version != (sizeof *t | 1u << 24)) RET(VERMIS);
    u64 v;
    int r = num(H.d, "temp_margin", &v);
    if (!r) t->margin = (int)v;
    RET(r);
}
static const char *clk[] = {"clk_gr", "clk_sm", "clk_mem", "clk_video"};
static const char *clkm[] = {"clk_gr_max", "clk_sm_max", "clk_mem_max", "clk_video_max"};
API ret_t nvmlDeviceGetClockInfo(void *h, int t, u32 *o) {
    ENTER(h);
    GPUONLY();
    u64 v;
    if (t < 0 || t > 3) RET(INVAL);
    int r = num(H.d, clk[t], &v);
    if (!r) *o = (u32)v;
    RET(r);
}
API ret_t nvmlDeviceGetMaxClockInfo(void *h, int t, u32 *o) {
    ENTER(h);
    GPUONLY();
    u64 v;
    if (t < 0 || t > 3) RET(INVAL);
    int r = num(H.d, clkm[t], &v);
    if (!r) *o = (u32)v;
    RET(r);
}
typedef struct {
    u32 gpu, memory;
} util_t;
API ret_t nvmlDeviceGetUtilizationRates(void *h, util_t *u) {
    ENTER(h);
    GPUONLY();
    u64 a, b, m = 0;
    num(H.d, "mig_mode", &m);
    if (m) RET(NOTSUP);
    if (num(H.d, "util", &a) | num(H.d, "util_mem", &b)) RET(NOTSUP);
    u->gpu = (u32)a;
    u->memory = (u32)b;
    RET(OK);
}
#define ENC(fn, key)                                                                               \
    API ret_t fn(void *h, u32 *u, u32 *per) {                                                      \
        ENTER(h);                                                                                  \
        GPUONLY();                                                                                 \
        u64 v;                                                                                     \
        int r = num(H.d, key, &v);                                                                 \
        if (!r) {                                                                                  \
            *u = (u32)v;                                                                           \
            *per = 167000;                                                                         \
        }                                                                                          \
        RET(r);                                                                                    \
    }
ENC(nvmlDeviceGetEncoderUtilization, "util_enc")
ENC(nvmlDeviceGetDecoderUtilization, "util_dec")
API ret_t nvmlDeviceGetPcieThroughput(void *h, int c, u32 *v) {
    ENTER(h);
    GPUONLY();
    u64 x;
    int r = num(H.d, c ? "pcie_rx_kbps" : "pcie_tx_kbps", &x);
    if (!r) {
        *v = (u32)x;
        pthread_mutex_unlock(&mu);
        usleep(20000);
        return OK;
    }
    RET(r);
}
