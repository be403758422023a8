/* Objects of one size: zeroed, apart from each other, and their pages go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/slab.h"

enum { SIZE = 1000, MANY = 1000 };

static void assert_filled(const uint8_t *p, uint8_t with)
{
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(p[i], with);
}

static void test_objects_are_zeroed_and_apart(void **state UNUSED)
{
	struct slab s;
	uint8_t *object[MANY] = { 0 };
	slab_init(&s, SIZE);
	s.separate = false;
	srandom(1);
	for (int round = 0; round < 20 * MANY; round++) {
		int i = (int)(random() % MANY);
		if (object[i]) {
			assert_filled(object[i], (uint8_t)(i | 1));
			slab_put(&s, object[i]);
			object[i] = NULL;
			continue;
		}
		object[i] = slab_get(&s);
		assert_int_equal((uintptr_t)object[i] % 16, 0);
		assert_filled(object[i], 0);
		memset(object[i], i | 1, SIZE);
	}
	for (int i = 0; i < MANY; i++) {
		if (!object[i])
			continue;
		assert_filled(object[i], (uint8_t)(i | 1));
		slab_put(&s, object[i]);
	}
	assert_int_equal(s.used, 0);
	slab_deinit(&s);
}

static void test_all_out_and_back_twice(void **state UNUSED)
{
	struct slab s;
	void *object[MANY];
	slab_init(&s, SIZE);
	s.separate = false;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++)
			object[i] = slab_get(&s);
		assert_int_equal(s.used, MANY);
		for (int i = 0; i < MANY; i++)
			slab_put(&s, object[round ? MANY - 1 - i : i]);
		assert_int_equal(s.used, 0);
		assert_true(LIST_EMPTY(&s.with_room)); /* no chunk is held but the spare one */
	}
	slab_deinit(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects_are_zeroed_and_apart),
		cmocka_unit_test(test_all_out_and_back_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
