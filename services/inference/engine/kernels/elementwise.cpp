// What happens between the matrix products: residual sums, norms, gated activations.
#include <cmath>
#include <cstdint>

#include "vector.h"

namespace {

inline __m256 sigmoid8(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, mesh::exp8(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

inline __m256 silu8(__m256 x) { return _mm256_mul_ps(x, sigmoid8(x)); }

// The tanh form of GELU: 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
inline __m256 gelu8(__m256 x) {
  const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
  const __m256 u = _mm256_fmadd_ps(cube, _mm256_set1_ps(0.044715f), x);
  return _mm256_mul_ps(x, sigmoid8(_mm256_mul_ps(u, _mm256_set1_ps(2.0f * 0.7978845608028654f))));
}

template <__m256 (*Activate)(__m256)>
void gate(const float* gate_up, int64_t rows, int64_t width, float* y) {
#pragma omp parallel for schedule(static) if (rows * width > 65536)
  for (int64_t t = 0; t < rows; ++t) {
    const float *g = gate_up + t * 2 * width, *u = g + width;
    float* out = y + t * width;
    int64_t i = 0;
    for (; i + 8 <= width; i += 8)
      _mm256_storeu_ps(out + i, _mm256_mul_ps(Activate(_mm256_loadu_ps(g + i)), _mm256_loadu_ps(u + i)));
    for (; i < width; ++i) {
      float lanes[8];
      _mm256_storeu_ps(lanes, Activate(_mm256_set1_ps(g[i])));
      out[i] = lanes[0] * u[i];
    }
  }
}

}  // namespace

extern "C" {

// y [rows, width] = x / rms(x) * weight; with `delta`, x += delta first (in place). y may be x.
void mesh_rms_norm(float* x, const float* delta, const float* weight, float epsilon, int64_t rows, int64_t width, float* y) {
#pragma omp parallel for schedule(static) if (rows * width > 65536)
  for (int64_t t = 0; t < rows; ++t) {
    float *in = x + t * width, *out = y + t * width;
    float squares = 0.0f;
    if (delta != nullptr)
      for (int64_t i = 0; i < width; ++i) in[i] += delta[t * width + i];
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) squares += in[i] * in[i];
    const float factor = 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
    for (int64_t i = 0; i < width; ++i) out[i] = in[i] * factor * weight[i];
  }
}

// gate_up [rows, 2 width] -> y [rows, width] = activation(gate) * up. kind 0: SiLU, 1: GELU (tanh).
void mesh_gate(const float* gate_up, int64_t rows, int64_t width, int kind, float* y) {
  (kind == 0 ? gate<silu8> : gate<gelu8>)(gate_up, rows, width, y);
}
}
