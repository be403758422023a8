/* base/rules.h - lets a test build take one correctness rule out (PGWEIR_BREAK=a1,b3), so that `make test-mutants`
 * can prove that each rule's test fails without the rule.  In a release build RULE_BROKEN() is the constant false
 * and the compiler drops the broken branch.
 *
 * To guard a rule:  if (!RULE_BROKEN(A8)) keep_the_segment(); */
#ifndef BASE_RULES_H
#define BASE_RULES_H

#include <stdbool.h>

/* clang-format off */
#define RULES(X) \
	X(A1) X(A2) X(A3) X(A4) X(A5) X(A6) X(A7) X(A8) \
	X(B1) X(B2) X(B3) X(B4) X(B5) X(B6) X(B7) X(B8) \
	X(C1) X(C2) X(C3) X(C4) X(C5) X(C6) X(C7) X(C8) \
	X(D1) X(D2) X(D3) X(D4) X(D5) X(D6) X(E1) X(E2) X(E3) X(E4) X(E5) X(E6) X(E7) \
	X(F1) X(F2) X(F3) X(F4) X(F5) \
	X(G1) X(G2) X(G3) X(G4)
/* clang-format on */

enum rule {
#define RULE_ENUM(id) RULE_##id,
	RULES(RULE_ENUM)
#undef RULE_ENUM
	    RULE_COUNT
};

#ifdef PGWEIR_TEST_BUILD
/* Reads PGWEIR_BREAK once; an unknown rule name ends the process, so that a mutant test cannot pass by a typo. */
void rules_init(void);
bool rule_is_broken(enum rule rule);
#define RULE_BROKEN(id) rule_is_broken(RULE_##id)
#else
static inline void rules_init(void) {}
#define RULE_BROKEN(id) false
#endif

#endif
