// Times sgemm as DeepBench's CPU code does (one warm-up, then the calls), for gemm_vs_mkl.py.
// Reads lines "m n k transA transB calls"; answers one line with nanoseconds of processor time of each call.
#include <mkl.h>

#include <cstdio>
#include <ctime>
#include <random>
#include <vector>

static double now_ns() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

static float *random_matrix(size_t count, unsigned seed) {
    float *data = static_cast<float *>(mkl_malloc(count * sizeof(float), 64));
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < count; ++i) data[i] = normal(generator);
    return data;
}

int main() {
    int m, n, k, a_t, b_t, calls;
    while (std::scanf("%d %d %d %d %d %d", &m, &n, &k, &a_t, &b_t, &calls) == 6) {
        float *a = random_matrix(static_cast<size_t>(m) * k, 1);
        float *b = random_matrix(static_cast<size_t>(k) * n, 2);
        float *c = random_matrix(static_cast<size_t>(m) * n, 3);
        auto call = [&] {
            cblas_sgemm(CblasColMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans, m, n, k, 1.0f,
                        a, a_t ? k : m, b, b_t ? n : k, 0.0f, c, m);
        };
        call();
        for (int i = 0; i < calls; ++i) {
            double began = now_ns();
            call();
            std::printf("%.0f ", now_ns() - began);
        }
        std::printf("\n");
        std::fflush(stdout);
        mkl_free(a);
        mkl_free(b);
        mkl_free(c);
    }
    return 0;
}
