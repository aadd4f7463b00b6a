// What a rank tells of its slice of each row of logits: the likeliest tokens, and the sum of exp over all others.
//
// A row is cut into runs of 64 numbers. The largest of each run bounds the k-th largest of the row from below (the k-th
// largest of them does), so that one more look at the promising runs finds all candidates.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "vector.h"

namespace {

constexpr int64_t kRun = 64;
constexpr float kLeast = -std::numeric_limits<float>::infinity();

// A number and its place as one integer: the larger comes first, and of equals the one further left.
using Candidate = uint64_t;

inline Candidate candidate(float value, int64_t at) {
  const float positive_zero = value + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof bits);
  bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  return static_cast<uint64_t>(bits) << 32 | (0xffffffffu - static_cast<uint32_t>(at));
}

inline float value_of(Candidate candidate) {
  uint32_t bits = static_cast<uint32_t>(candidate >> 32);
  bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline int64_t place_of(Candidate candidate) { return 0xffffffffu - static_cast<uint32_t>(candidate); }

struct Run {
  const float* x;
  int64_t length;

  __m256 vector(int64_t i) const { return _mm256_loadu_ps(x + i); }
};

inline Run run_of(const float* x, int64_t count, int64_t index) { return {x + index * kRun, std::min(kRun, count - index * kRun)}; }

// The largest number of a run; NaN if there is one.
inline float largest_of(const Run& run) {
  __m256 most = _mm256_set1_ps(kLeast), unordered = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= run.length; i += 8) {
    const __m256 v = run.vector(i);
    most = _mm256_max_ps(most, v);
    unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  float largest = mesh::max8(most);
  bool is_nan = _mm256_movemask_ps(unordered) != 0;
  for (; i < run.length; ++i) {
    largest = std::max(largest, run.x[i]);
    is_nan |= run.x[i] != run.x[i];
  }
  return is_nan ? std::numeric_limits<float>::quiet_NaN() : largest;
}

// Sum of exp((x - most) * scale) over what lies below `bound`, and how many equal it. A run's sum is float32, that of runs
// double.
struct Below {
  double sum = 0.0;
  int64_t equal_count = 0;
};

Below sum_below(const float* x, int64_t count, float bound, float most, float scale) {
  const __m256 shift = _mm256_set1_ps(most), factor = _mm256_set1_ps(scale), limit = _mm256_set1_ps(bound);
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  Below below;
  int64_t i = 0;
  while (i + 8 <= count) {
    __m256 sum = _mm256_setzero_ps();
    for (const int64_t end = std::min(i + kRun, count); i + 8 <= end; i += 8) {
      const __m256 v = _mm256_loadu_ps(x + i);
      const __m256 weight = mesh::exp8(_mm256_mul_ps(_mm256_sub_ps(v, shift), factor));
      sum = _mm256_add_ps(sum, _mm256_and_ps(weight, _mm256_cmp_ps(v, limit, _CMP_LT_OQ)));
      below.equal_count += __builtin_popcount(_mm256_movemask_ps(_mm256_cmp_ps(v, limit, _CMP_EQ_OQ)));
    }
    low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(sum)));
    high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(sum, 1)));
  }
  double lanes[4];
  _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
  for (double lane : lanes) below.sum += lane;
  for (; i < count; ++i) {
    if (x[i] < bound) below.sum += std::exp(static_cast<double>((x[i] - most) * scale));
    below.equal_count += x[i] == bound;
  }
  return below;
}

// Room that one thread uses for row after row.
struct Room {
  std::vector<float> largest;  // of each run
  std::vector<float> ordered;
  std::vector<Candidate> candidates;
};

void collect(const float* x, int64_t count, float bound, Room& room) {
  const __m256 limit = _mm256_set1_ps(bound);
  room.candidates.clear();
  for (size_t r = 0; r < room.largest.size(); ++r) {
    if (room.largest[r] < bound) continue;
    const Run run = run_of(x, count, static_cast<int64_t>(r));
    const int64_t begin = static_cast<int64_t>(r) * kRun;
    int64_t i = 0;
    for (; i + 8 <= run.length; i += 8)
      for (int found = _mm256_movemask_ps(_mm256_cmp_ps(run.vector(i), limit, _CMP_GE_OQ)); found != 0; found &= found - 1) {
        const int64_t at = i + __builtin_ctz(found);
        room.candidates.push_back(candidate(run.x[at], begin + at));
      }
    for (; i < run.length; ++i)
      if (run.x[i] >= bound) room.candidates.push_back(candidate(run.x[i], begin + i));
  }
}

// The `wanted` likeliest of a row, in order, in room.candidates; all if there are fewer.
void find_candidates(const float* x, int64_t count, int64_t wanted, Room& room) {
  wanted = std::min(wanted, count);
  float bound = kLeast;
  if (wanted <= static_cast<int64_t>(room.largest.size())) {
    room.ordered = room.largest;
    std::nth_element(room.ordered.begin(), room.ordered.begin() + (wanted - 1), room.ordered.end(), std::greater<float>());
    bound = room.ordered[wanted - 1];
  }
  collect(x, count, bound, room);
  std::nth_element(room.candidates.begin(), room.candidates.begin() + (wanted - 1), room.candidates.end(), std::greater<Candidate>());
  room.candidates.resize(wanted);
  std::sort(room.candidates.begin(), room.candidates.end(), std::greater<Candidate>());
}

// exp of what is not among the candidates; of numbers equal to the last candidate some are, some are not.
double rest_of(const float* x, int64_t count, float temperature, const Room& room) {
  const float most = value_of(room.candidates.front()), last = value_of(room.candidates.back());
  if (most == kLeast) return 0.0;
  const float scale = 1.0f / temperature;
  Below below = sum_below(x, count, last, most, scale);
  for (Candidate candidate : room.candidates) below.equal_count -= value_of(candidate) == last;
  if (below.equal_count == 0) return below.sum;
  return below.sum + static_cast<double>(below.equal_count) * std::exp(static_cast<double>((last - most) * scale));
}

// Where a row's excerpt goes.
struct Excerpt {
  double *values, *ids, *rest;
  int64_t wanted;
  float temperature;

  void fill(double value, double id) const {
    std::fill(values, values + wanted, value);
    std::fill(ids, ids + wanted, id);
  }
};

// The likeliest run of a row in `best`, the largest of each in room.largest; false for a row with a NaN.
bool scan(const float* x, int64_t count, Room& room, int64_t& best) {
  const int64_t runs = (count + kRun - 1) / kRun;
  room.largest.resize(runs);
  best = 0;
  for (int64_t i = 0; i < runs; ++i) {
    room.largest[i] = largest_of(run_of(x, count, i));
    if (room.largest[i] != room.largest[i]) return false;
    if (room.largest[i] > room.largest[best]) best = i;
  }
  return true;
}

void reduce_row(const float* x, int64_t count, int64_t first_id, const Excerpt& excerpt, Room& room) {
  int64_t best;
  if (!scan(x, count, room, best)) {
    excerpt.fill(std::nan(""), 0.0);
    *excerpt.rest = std::nan("");
    return;
  }
  if (excerpt.wanted == 1 && excerpt.temperature <= 0.0f) {
    const Run run = run_of(x, count, best);
    const int64_t at = std::find(run.x, run.x + run.length, room.largest[best]) - run.x;
    excerpt.fill(room.largest[best], static_cast<double>(first_id + best * kRun + at));
    return;
  }
  find_candidates(x, count, excerpt.wanted, room);
  excerpt.fill(kLeast, -1.0);
  for (size_t i = 0; i < room.candidates.size(); ++i) {
    excerpt.values[i] = value_of(room.candidates[i]);
    excerpt.ids[i] = static_cast<double>(first_id + place_of(room.candidates[i]));
  }
  if (excerpt.temperature > 0.0f) *excerpt.rest = rest_of(x, count, excerpt.temperature, room);
}

}  // namespace

extern "C" {

// Row r of x [rows, count] (rows `stride` apart, count at least 1): its wanted[r] likeliest numbers, in order, at
// values + begins[r], their places + first_id at ids + begins[r] (-inf and -1 where there are fewer); where
// temperatures[r] > 0, at rests[r] the sum of exp((x - values[0]) / temperatures[r]) over all others, else 0. Values and
// rest are NaN for a row with a NaN. Rows of which nothing is wanted are passed over.
void mesh_reduce(const float* x, int64_t rows, int64_t count, int64_t stride, int64_t first_id, const int64_t* wanted,
                 const int64_t* begins, const float* temperatures, double* values, double* ids, double* rests) {
#pragma omp parallel
  {
    Room room;
#pragma omp for schedule(dynamic)
    for (int64_t r = 0; r < rows; ++r) {
      rests[r] = 0.0;
      if (wanted[r] == 0) continue;
      const Excerpt excerpt{values + begins[r], ids + begins[r], rests + r, wanted[r], temperatures[r]};
      reduce_row(x + r * stride, count, first_id, excerpt, room);
    }
  }
}
}
