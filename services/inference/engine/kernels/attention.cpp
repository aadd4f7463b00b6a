// Attention of a step's tokens over the paged cache, and what comes before it: head norms, rotary positions, the cache write.
//
// Cache of one layer: blocks of 16 tokens. Keys lie transposed in a block ([block][kv head][D][16]), values straight
// ([block][kv head][16][D]), so that both products run over 16 numbers in a row, for up to eight queries that share a
// key/value head. The softmax is computed on the way, block by block.
//
// Legend: T tokens of the step, H query heads, G key/value heads, D head dimension (a multiple of 16).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "vector.h"

namespace {

constexpr int kBlock = 16;  // BLOCK_TOKENS in blocks.py
constexpr int kMostRows = 8;

// One query head at one token: what it may see is [begin, end) of its sequence.
struct Row {
  const float* query;
  float* output;
  int64_t begin, end;
};

struct Cache {
  const float* keys;
  const float* values;
  int64_t kv_heads, dim;
};

// scores[r][0..16) = queries of R rows with the 16 keys of a block.
template <int R>
void score(const Row* rows, const float* keys, int64_t dim, float scores[][kBlock]) {
  __m256 low[R], high[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) low[r] = high[r] = _mm256_setzero_ps();
  for (int64_t d = 0; d < dim; ++d, keys += kBlock) {
    const __m256 k_low = _mm256_loadu_ps(keys), k_high = _mm256_loadu_ps(keys + 8);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256 q = _mm256_broadcast_ss(rows[r].query + d);
      low[r] = _mm256_fmadd_ps(q, k_low, low[r]);
      high[r] = _mm256_fmadd_ps(q, k_high, high[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    _mm256_storeu_ps(scores[r], low[r]);
    _mm256_storeu_ps(scores[r] + 8, high[r]);
  }
}

// sums[r][0..dim) = sums * decay[r] + weights of R rows with the values [first, last) of a block. The others are not even
// read: what nobody has written yet may be anything, and 0 times NaN is NaN.
template <int R>
void mix(const float weights[][kBlock], const float* decay, const float* values, int64_t first, int64_t last, int64_t dim, float* sums) {
  for (int64_t d = 0; d < dim; d += 16) {
    __m256 low[R], high[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256 factor = _mm256_set1_ps(decay[r]);
      low[r] = _mm256_mul_ps(_mm256_loadu_ps(sums + r * dim + d), factor);
      high[r] = _mm256_mul_ps(_mm256_loadu_ps(sums + r * dim + d + 8), factor);
    }
    for (int64_t t = first; t < last; ++t) {
      const __m256 v_low = _mm256_loadu_ps(values + t * dim + d), v_high = _mm256_loadu_ps(values + t * dim + d + 8);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m256 w = _mm256_broadcast_ss(&weights[r][t]);
        low[r] = _mm256_fmadd_ps(w, v_low, low[r]);
        high[r] = _mm256_fmadd_ps(w, v_high, high[r]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      _mm256_storeu_ps(sums + r * dim + d, low[r]);
      _mm256_storeu_ps(sums + r * dim + d + 8, high[r]);
    }
  }
}

// Turns scores into weights relative to the running maximum; hidden positions get weight 0. Returns the old sums' decay.
float soften(float* scores, const Row& row, int64_t first, float scaling, float& most, float& total) {
  const __m256i position = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(first)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i before = _mm256_set1_epi32(static_cast<int>(row.begin)), behind = _mm256_set1_epi32(static_cast<int>(row.end));
  const __m256 hidden = _mm256_set1_ps(-INFINITY), factor = _mm256_set1_ps(scaling);
  __m256 halves[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i at = _mm256_add_epi32(position, _mm256_set1_epi32(8 * half));
    const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(before, at), _mm256_cmpgt_epi32(behind, at));
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(scores + 8 * half), factor);
    halves[half] = _mm256_blendv_ps(hidden, scaled, _mm256_castsi256_ps(seen));
  }
  const float larger = std::max(most, mesh::max8(_mm256_max_ps(halves[0], halves[1])));
  if (larger == -INFINITY) {  // nothing of this block is seen, nor was anything before
    std::memset(scores, 0, kBlock * sizeof(float));
    return 1.0f;
  }
  const __m256 shift = _mm256_set1_ps(larger);
  __m256 sum = _mm256_setzero_ps();
  for (int half = 0; half < 2; ++half) {
    const __m256 is_seen = _mm256_cmp_ps(halves[half], hidden, _CMP_NEQ_UQ);
    const __m256 weight = _mm256_and_ps(mesh::exp8(_mm256_sub_ps(halves[half], shift)), is_seen);
    _mm256_storeu_ps(scores + 8 * half, weight);
    sum = _mm256_add_ps(sum, weight);
  }
  const float decay = most == -INFINITY ? 0.0f : std::exp(most - larger);
  total = total * decay + mesh::sum8(sum);
  most = larger;
  return decay;
}

template <int R>
void attend_rows(const Row* rows, const Cache& cache, const int32_t* table, int64_t kv_head, float scaling, float* sums) {
  const int64_t head_size = cache.dim * kBlock;
  int64_t begin = rows[0].begin, end = rows[0].end;
  for (int r = 1; r < R; ++r) begin = std::min(begin, rows[r].begin), end = std::max(end, rows[r].end);
  float scores[R][kBlock], most[R], total[R], decay[R];
  for (int r = 0; r < R; ++r) most[r] = -INFINITY, total[r] = 0.0f;
  std::memset(sums, 0, R * cache.dim * sizeof(float));
  for (int64_t b = begin / kBlock; b * kBlock < end; ++b) {
    const int64_t at = (table[b] * cache.kv_heads + kv_head) * head_size;
    score<R>(rows, cache.keys + at, cache.dim, scores);
    for (int r = 0; r < R; ++r) decay[r] = soften(scores[r], rows[r], b * kBlock, scaling, most[r], total[r]);
    const int64_t first = std::max<int64_t>(0, begin - b * kBlock), last = std::min<int64_t>(kBlock, end - b * kBlock);
    mix<R>(scores, decay, cache.values + at, first, last, cache.dim, sums);
  }
  for (int r = 0; r < R; ++r)
    for (int64_t d = 0; d < cache.dim; ++d) rows[r].output[d] = sums[r * cache.dim + d] / total[r];
}

using AttendRows = void (*)(const Row*, const Cache&, const int32_t*, int64_t, float, float*);
constexpr AttendRows kAttendRows[kMostRows + 1] = {nullptr,        attend_rows<1>, attend_rows<2>, attend_rows<3>, attend_rows<4>,
                                                   attend_rows<5>, attend_rows<6>, attend_rows<7>, attend_rows<8>};

// x [D]: scaled to a root mean square of 1, times weight. Null weight: as it is.
void norm_head(float* x, const float* weight, float epsilon, int64_t dim) {
  if (weight == nullptr) return;
  float squares = 0.0f;
  for (int64_t d = 0; d < dim; ++d) squares += x[d] * x[d];
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(dim) + epsilon);
  for (int64_t d = 0; d < dim; ++d) x[d] *= factor * weight[d];
}

// Rotates the pairs (d, d + D/2) by the angles whose cosines and sines are given [D].
void rotate_head(float* x, const float* cosine, const float* sine, int64_t dim) {
  const int64_t half = dim / 2;
  for (int64_t d = 0; d < half; ++d) {
    const float first = x[d], second = x[d + half];
    x[d] = first * cosine[d] - second * sine[d];
    x[d + half] = second * cosine[d + half] + first * sine[d + half];
  }
}

}  // namespace

extern "C" {

// qkv [T, (H + 2G) D]: norms and rotates queries and keys in place, and writes keys and values to the cache at slots [T]
// (block * 16 + offset). cosine, sine: [positions, D] tables, read at positions [T]. q_norm, k_norm: [D] or null.
void mesh_rotate_and_store(float* qkv, int64_t t_count, int64_t heads, int64_t kv_heads, int64_t dim, const int64_t* positions,
                           const float* cosine, const float* sine, const float* q_norm, const float* k_norm, float epsilon,
                           const int64_t* slots, float* keys, float* values) {
  const int64_t row_size = (heads + 2 * kv_heads) * dim;
#pragma omp parallel for schedule(static) if (t_count > 16)
  for (int64_t t = 0; t < t_count; ++t) {
    float* head = qkv + t * row_size;
    const float *cos_t = cosine + positions[t] * dim, *sin_t = sine + positions[t] * dim;
    for (int64_t h = 0; h < heads + kv_heads; ++h, head += dim) {
      norm_head(head, h < heads ? q_norm : k_norm, epsilon, dim);
      rotate_head(head, cos_t, sin_t, dim);
    }
    const int64_t block = slots[t] / kBlock, offset = slots[t] % kBlock;
    const float* key = qkv + t * row_size + heads * dim;
    for (int64_t g = 0; g < kv_heads; ++g, key += dim) {
      const int64_t at = (block * kv_heads + g) * dim * kBlock;
      for (int64_t d = 0; d < dim; ++d) keys[at + d * kBlock + offset] = key[d];
      std::memcpy(values + at + offset * dim, key + kv_heads * dim, dim * sizeof(float));
    }
  }
}

// qkv [T, (H + 2G) D] (queries are read) -> output [T, H D]. Chunk c covers tokens [begins[c], begins[c + 1]) of the step,
// starts at position starts[c] of its sequence, and finds its blocks at tables + table_begins[c]. window 0: none.
void mesh_attend(const float* qkv, float* output, int64_t heads, int64_t kv_heads, int64_t dim, const float* keys, const float* values,
                 int64_t chunk_count, const int64_t* begins, const int64_t* starts, const int32_t* tables,
                 const int64_t* table_begins, int64_t window, float scaling) {
  const Cache cache{keys, values, kv_heads, dim};
  const int64_t row_size = (heads + 2 * kv_heads) * dim, group = heads / kv_heads;
  const int64_t tokens_a_tile = std::max<int64_t>(1, kMostRows / group);
  struct Job {
    int64_t chunk, token, token_count, kv_head;
  };
  std::vector<Job> jobs;
  for (int64_t c = 0; c < chunk_count; ++c)
    for (int64_t t = begins[c]; t < begins[c + 1]; t += tokens_a_tile)
      for (int64_t g = 0; g < kv_heads; ++g) jobs.push_back({c, t, std::min(tokens_a_tile, begins[c + 1] - t), g});
#pragma omp parallel
  {
    std::vector<float> sums(kMostRows * dim);
#pragma omp for schedule(dynamic, 4)
    for (size_t j = 0; j < jobs.size(); ++j) {
      const Job& job = jobs[j];
      std::vector<Row> rows;
      for (int64_t t = job.token; t < job.token + job.token_count; ++t) {
        const int64_t end = starts[job.chunk] + (t - begins[job.chunk]) + 1;
        const int64_t begin = window > 0 ? std::max<int64_t>(0, end - window) : 0;
        for (int64_t h = job.kv_head * group; h < (job.kv_head + 1) * group; ++h)
          rows.push_back({qkv + t * row_size + h * dim, output + (t * heads + h) * dim, begin, end});
      }
      for (size_t first = 0; first < rows.size(); first += kMostRows) {
        const size_t count = std::min<size_t>(kMostRows, rows.size() - first);
        kAttendRows[count](rows.data() + first, cache, tables + table_begins[job.chunk], job.kv_head, scaling, sums.data());
      }
    }
  }
}
}
