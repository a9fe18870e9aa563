/* Aligned memory (torch's tensors, the library's scratch) that ends at a page nobody may touch. Preloaded by
   test_fences.py: an access past the page ends the process, bytes changed in between are found when memory is freed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define PAGES ((size_t)1 << 24)
#define UNTOUCHED 0xB5

static char* arena;
static atomic_size_t used = 1;
static size_t sizes[PAGES]; /* by the number of an allocation's first page */

__attribute__((constructor)) static void reserve(void) {
  arena = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) abort();
}

static void* fenced(size_t alignment, size_t size) {
  size_t pages = size / PAGE + 1;
  size_t first = atomic_fetch_add(&used, pages + 1);
  if (alignment > PAGE || first + pages >= PAGES) return NULL;
  char* begin = arena + first * PAGE;
  if (mprotect(begin, pages * PAGE, PROT_READ | PROT_WRITE) != 0) return NULL;
  memset(begin, UNTOUCHED, pages * PAGE);
  sizes[first] = size;
  return (void*)(((uintptr_t)begin + pages * PAGE - size) & ~(uintptr_t)(alignment - 1));
}

int posix_memalign(void** to, size_t alignment, size_t size) {
  *to = fenced(alignment, size);
  return *to == NULL ? ENOMEM : 0;
}
void* aligned_alloc(size_t alignment, size_t size) { return fenced(alignment, size); }

static void check(const char* from, const char* to) {
  for (; from < to; ++from) {
    if (*(const unsigned char*)from == UNTOUCHED) continue;
    fputs("bytes outside of an allocation were changed\n", stderr);
    abort();
  }
}

void free(void* pointer) {
  static void (*next)(void*);
  char* data = pointer;
  if (data < arena || data >= arena + PAGES * PAGE) {
    if (next == NULL) next = (void (*)(void*))dlsym(RTLD_NEXT, "free");
    next(pointer);
    return;
  }
  size_t first = (size_t)(data - arena) / PAGE;
  while (sizes[first] == 0 && first > 0) --first;
  size_t size = sizes[first], pages = size / PAGE + 1;
  char* begin = arena + first * PAGE;
  check(begin, data);
  check(data + size, begin + pages * PAGE);
  mprotect(begin, pages * PAGE, PROT_NONE);
  madvise(begin, pages * PAGE, MADV_DONTNEED);
}
