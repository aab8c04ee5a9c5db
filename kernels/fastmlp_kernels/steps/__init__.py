"""Operations of a plan other than its products."""
