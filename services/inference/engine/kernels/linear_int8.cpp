// Linear layers with 8-bit weights: y = x W^T. W is int8 with one scale for each 256 inputs of each output; x is quantised to
// 16 bits with one scale a token.
//
// Products are vpmaddwd on 16-bit numbers: as fast on AVX2 as the 8-bit vpmaddubsw plus vpmaddwd, without its saturation,
// so activations keep all the bits that a 32-bit sum over 256 inputs allows. Weights stay 8 bits wide in memory and are widened
// on the way in, once for up to six rows of x.
//
// Packed weights: panels of 16 outputs; in a panel, for each pair of inputs, 16 x 2 bytes. K must be even.
// Scales: for each panel, for each group of 256 inputs, 16 numbers.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "vector.h"

namespace {

constexpr int kPanel = 16;
constexpr int kRows = 6;                     // rows of x in registers: 12 sums, 2 weights, 1 broadcast
constexpr int64_t kGroup = 256;              // inputs under one scale
constexpr int64_t kBlockBytes = 384 * 1024;  // of quantised x, so that it stays in a core's second-level cache
constexpr float kLargest = 32512.0f;         // 256 * 127 * 32512 < 2^31, with room for rounding
static_assert(kGroup * 127 * 32513LL < INT32_MAX);

int64_t panels_of(int64_t n) { return (n + kPanel - 1) / kPanel; }

int64_t groups_of(int64_t k) { return (k + kGroup - 1) / kGroup; }

float quantise_row(const float* x, int64_t k, int16_t* q) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 most = _mm256_setzero_ps(), sums = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    const __m256 size = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i));
    most = _mm256_max_ps(most, size);
    sums = _mm256_add_ps(sums, size);  // a maximum can lose a NaN, a sum can't
  }
  float amax = mesh::max8(most), sum = mesh::sum8(sums);
  for (int64_t j = i; j < k; ++j) amax = std::max(amax, std::fabs(x[j])), sum += std::fabs(x[j]);
  if (!std::isfinite(sum) || amax == 0.0f) {
    std::memset(q, 0, k * sizeof(int16_t));
    return amax == 0.0f && sum == 0.0f ? 0.0f : NAN;  // what is not a number must not look like one
  }
  const float inverse = kLargest / amax;
  const __m256 factor = _mm256_set1_ps(inverse);
  for (i = 0; i + 16 <= k; i += 16) {
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), factor));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0b11011000);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), both);
  }
  for (; i < k; ++i) q[i] = static_cast<int16_t>(std::lrintf(x[i] * inverse));
  return amax / kLargest;
}

inline __m256i pair_of(const int16_t* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

inline __m256i widened(const int8_t* w) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
}

struct Output {
  float* y;
  int64_t stride;
  const float* row_scales;
  const float* bias;
  int64_t n;
};

// What one row has come to for the 16 outputs of a panel.
struct Total {
  __m256 low, high;
};

void store(const Output& out, int64_t row, int64_t column, const Total& total) {
  const __m256 factor = _mm256_set1_ps(out.row_scales[row]);
  __m256 low = _mm256_mul_ps(total.low, factor), high = _mm256_mul_ps(total.high, factor);
  float* y = out.y + row * out.stride + column;
  if (out.n - column >= kPanel) {
    if (out.bias != nullptr) {
      low = _mm256_add_ps(low, _mm256_loadu_ps(out.bias + column));
      high = _mm256_add_ps(high, _mm256_loadu_ps(out.bias + column + 8));
    }
    _mm256_storeu_ps(y, low);
    _mm256_storeu_ps(y + 8, high);
    return;
  }
  float values[kPanel];
  _mm256_storeu_ps(values, low);
  _mm256_storeu_ps(values + 8, high);
  for (int64_t j = 0; j < out.n - column; ++j) y[j] = values[j] + (out.bias != nullptr ? out.bias[column + j] : 0.0f);
}

inline void add_to(__m256i& sum, __m256i product) {
  // The order is ours: compilers fetch the pairs of all rows first, run out of registers and spill sums.
  asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
}

// The sums of R rows by 16 outputs. Nested rather than an array, so that compilers keep all of them in registers.
template <int R>
struct Sums {
  __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
  Sums<R - 1> rest;

  __attribute__((always_inline)) void add(const int16_t* x, int64_t k, __m256i w_low, __m256i w_high) {
    const __m256i pair = pair_of(x);
    add_to(low, _mm256_madd_epi16(pair, w_low));
    add_to(high, _mm256_madd_epi16(pair, w_high));
    rest.add(x + k, k, w_low, w_high);
  }

  void add_into(Total* totals, __m256 scales_low, __m256 scales_high) const {
    totals->low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), scales_low, totals->low);
    totals->high = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), scales_high, totals->high);
    rest.add_into(totals + 1, scales_low, scales_high);
  }
};

template <>
struct Sums<0> {
  void add(const int16_t*, int64_t, __m256i, __m256i) {}
  void add_into(Total*, __m256, __m256) const {}
};

// Adds the products of one group's `count` inputs of R rows, k apart, with a panel's weights to `totals`. Meanwhile fetches
// the weights that lie `ahead` bytes further on.
template <int R>
void tile(const int16_t* x, int64_t k, int64_t count, const int8_t* weights, int64_t ahead, const float* scales, Total* totals) {
  Sums<R> sums;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4, weights += 4 * kPanel) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + ahead), _MM_HINT_T0);
    sums.add(x + i, k, widened(weights), widened(weights + kPanel));
    sums.add(x + i + 2, k, widened(weights + 2 * kPanel), widened(weights + 3 * kPanel));
  }
  if (i < count) sums.add(x + i, k, widened(weights), widened(weights + kPanel));
  sums.add_into(totals, _mm256_loadu_ps(scales), _mm256_loadu_ps(scales + 8));
}

using Tile = void (*)(const int16_t*, int64_t, int64_t, const int8_t*, int64_t, const float*, Total*);
constexpr Tile kTiles[kRows + 1] = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

struct Panel {
  const int8_t* weights;
  const float* scales;
  int64_t column;
};

// Rows [begin, end) of one panel, in tiles as even as can be: 32 rows are 6+6+5+5+5+5, never 6+...+2. The first tile of a
// group waits for memory unless the group was fetched before; the next group always lies behind this one.
void panel_rows(const int16_t* xq, int64_t k, const Panel& panel, const Output& out, int64_t begin, int64_t end) {
  static thread_local std::vector<Total> totals;
  totals.assign(end - begin, Total{_mm256_setzero_ps(), _mm256_setzero_ps()});
  for (int64_t group = 0; group < groups_of(k); ++group) {
    const int64_t first = group * kGroup, count = std::min(kGroup, k - first);
    int64_t tiles = (end - begin + kRows - 1) / kRows;
    for (int64_t row = begin; row < end; --tiles) {
      const int64_t rows = (end - row + tiles - 1) / tiles;
      const int64_t ahead = row == begin ? kGroup * kPanel : 0;
      kTiles[rows](xq + row * k + first, k, count, panel.weights + first * kPanel, ahead, panel.scales + group * kPanel,
                   totals.data() + (row - begin));
      row += rows;
    }
  }
  for (int64_t row = begin; row < end; ++row) store(out, row, panel.column, totals[row - begin]);
}

// One output's weights of one group. Returns the scale.
float pack_group(const float* w, int64_t count, int8_t* packed) {
  float amax = 0.0f;
  for (int64_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(w[i]));
  const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
  for (int64_t i = 0; i < count; ++i)
    packed[(i / 2) * 2 * kPanel + (i & 1)] = static_cast<int8_t>(std::lrintf(w[i] * inverse));
  return amax / 127.0f;
}

}  // namespace

extern "C" {

// Bytes of the packed form of [n, k] weights.
int64_t mesh_packed_bytes(int64_t n, int64_t k) { return panels_of(n) * kPanel * k; }

int64_t mesh_scale_count(int64_t n, int64_t k) { return panels_of(n) * kPanel * groups_of(k); }

// w [n, k] float32 -> packed and scales, both of the sizes above.
void mesh_pack_int8(const float* w, int64_t n, int64_t k, int8_t* packed, float* scales) {
  const std::vector<float> nothing(kGroup, 0.0f);
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < panels_of(n); ++p)
    for (int64_t c = 0; c < kPanel; ++c)
      for (int64_t group = 0; group < groups_of(k); ++group) {
        const int64_t row = p * kPanel + c, first = group * kGroup;
        const float* values = row < n ? w + row * k + first : nothing.data();
        scales[(p * groups_of(k) + group) * kPanel + c] =
            pack_group(values, std::min(kGroup, k - first), packed + (p * k + first) * kPanel + 2 * c);
      }
}

// x [m, k] float32, rows x_stride apart -> y [m, n], rows y_stride apart. bias [n] or null.
void mesh_linear_int8(const float* x, int64_t m, int64_t k, int64_t x_stride, const int8_t* packed, const float* scales,
                      const float* bias, int64_t n, float* y, int64_t y_stride) {
  static thread_local std::vector<int16_t> quantised;
  static thread_local std::vector<float> row_scales;
  quantised.resize(m * k);
  row_scales.resize(m);
  int16_t* xq = quantised.data();
  float* xs = row_scales.data();
  const Output out{y, y_stride, xs, bias, n};
  const int64_t block = std::max<int64_t>(kRows, kBlockBytes / (2 * k) / kRows * kRows);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < m; ++row) xs[row] = quantise_row(x + row * x_stride, k, xq + row * k);
    for (int64_t begin = 0; begin < m; begin += block) {
#pragma omp for schedule(static) nowait
      for (int64_t p = 0; p < panels_of(n); ++p)
        panel_rows(xq, k, {packed + p * kPanel * k, scales + p * groups_of(k) * kPanel, p * kPanel}, out, begin,
                   std::min(begin + block, m));
    }
  }
}

void mesh_set_threads(int count) { omp_set_num_threads(count); }
}
